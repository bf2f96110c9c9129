"""`POST /api/v1/repricing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.openapi_answers import PRIVATE, problems
from tokentide_query_api.money.repricing import Repricer, repriced
from tokentide_query_api.money.repricing_words import Repricing, Wanted


def repricing_handlers(repricer: Callable[[], Repricer]) -> Sequence[HTTPRouteHandler]:
    """Return the handler that prices history anew."""

    @post(
        "/api/v1/repricing",
        summary="Price a page of counted calls by the prices of today",
        status_code=200,
        responses=problems(),
        response_headers=PRIVATE,
        tags=["pricing"],
    )
    async def reprice(request: Request[Any, Any, Any], data: JSONBody[Wanted]) -> Repricing:
        at = repricer()
        return await repriced(at, await maker_of(at.desk, request), data)

    return [reprice]
