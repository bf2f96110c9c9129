"""`GET /api/v1/export/calls`: every call of a period as a file, streamed with flat memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from tokentide_query_api import parameters as p
from tokentide_query_api.calls import Row, call_slices
from tokentide_query_api.export.encoders import ENCODERS, Encoder
from tokentide_query_api.formats import MEDIA_TYPES
from tokentide_query_api.openapi import stream_operation
from tokentide_query_api.parameters import Arguments, Parameter
from tokentide_query_api.record import COLUMNS, record_of
from tokentide_query_api.routes import Sources, asking_of
from tokentide_query_api.visibility import require_people, sight_of

ROUTE: Final = "/api/v1/export/calls"
FORMAT: Final = Parameter("format", "Of the file.", tuple(ENCODERS), "ndjson")
PARAMETERS: Final = (p.FROM, p.TO, p.TZ, FORMAT, *p.FILTERS)
_SLICE: Final = 2048
_HEADERS: Final = {"cache-control": "private, no-store", "vary": "authorization, x-tokentide-key"}


def export_handlers(sources: Callable[[], Sources]) -> list[HTTPRouteHandler]:
    """Return the handler of the export."""

    @get(
        ROUTE,
        operation_id="export_calls",
        summary="Every call of a period as a file",
        operation_class=stream_operation(
            PARAMETERS, [MEDIA_TYPES[name] for name in ENCODERS], "A row for each call, oldest first."
        ),
    )
    async def export_calls(request: Request[Any, Any, Any]) -> Stream:
        at = sources()
        principal = await at.desk.admit_reader(request)
        sight = sight_of(principal)
        require_people(sight)
        arguments = Arguments(request.scope["query_string"], PARAMETERS, sight)
        fmt = arguments.text(FORMAT)
        ask = asking_of(at, principal, ROUTE, arguments, once=True)
        slices = call_slices(ask, ask.period(), _SLICE)
        # Asked for before the answer begins: what is refused, or away, is still an error with a status.
        first: Sequence[Row] = await anext(slices, [])
        return Stream(
            _file(ENCODERS[fmt](COLUMNS), first, slices), media_type=MEDIA_TYPES[fmt], headers=_HEADERS
        )

    return [export_calls]


async def _file(
    encoder: Encoder, first: Sequence[Row], slices: AsyncIterator[Sequence[Row]]
) -> AsyncIterator[bytes]:
    """Yield a file. When the store goes away within it, the connection breaks: half a file is no file."""
    yield encoder.head()
    yield await asyncio.to_thread(_encoded, encoder, first)
    async for rows in slices:
        # In a thread: an export must not keep other answers waiting.
        yield await asyncio.to_thread(_encoded, encoder, rows)
    yield await asyncio.to_thread(encoder.end)


def _encoded(encoder: Encoder, rows: Sequence[Row]) -> bytes:
    return encoder.rows([record_of(row) for row in rows])
