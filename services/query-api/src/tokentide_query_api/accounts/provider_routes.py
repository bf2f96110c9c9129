"""`/api/v1/providers`: keys of providers, which go in and never come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, delete, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts import providers
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.openapi_answers import PRIVATE, PathId, problems
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.providers import ProviderKey, ProviderPage

_ALL: Final = "/api/v1/providers"
_ONE: Final = "/api/v1/providers/{name:str}"
_COMMON: Final[dict[str, Any]] = {"tags": ["providers"], "response_headers": PRIVATE}


def provider_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of providers' keys."""

    @get(_ALL, summary="Providers for which a key is kept", responses=problems(), **_COMMON)
    async def list_providers(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> ProviderPage:
        principal = await desk().admit(request)
        return await providers.listed(desk(), principal, Page.of(principal.org_id, _ALL, limit, cursor))

    @put(_ONE, status_code=204, summary="Keep a provider's key", responses=problems(), **_COMMON)
    async def keep_key(request: Request[Any, Any, Any], name: PathId, data: JSONBody[ProviderKey]) -> None:
        await providers.keep(desk(), await maker_of(desk(), request), name, data.secret)

    @delete(_ONE, summary="Forget a provider's key", responses=problems(404), **_COMMON)
    async def forget_key(request: Request[Any, Any, Any], name: PathId) -> None:
        await providers.forget(desk(), await maker_of(desk(), request), name)

    return [list_providers, keep_key, forget_key]
