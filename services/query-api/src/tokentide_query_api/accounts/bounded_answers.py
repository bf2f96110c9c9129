"""Answers of other people's servers, read no further than they may be long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2

_MOST_BYTES: Final = 1_000_000


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _MOST_BYTES
        async for part in self._stream:
            left -= len(part)
            if left < 0:
                raise httpx2.ReadError(f"an answer of over {_MOST_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _plain(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "identity"


async def _bound(response: httpx2.Response) -> None:
    # A little of what is compressed can become a lot: it was not asked for, so it is not read.
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("a compressed answer", request=response.request)
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise httpx2.ReadError("an answer that is no stream", request=response.request)
    response.stream = _Bounded(response.stream)


BOUNDED: Final[dict[str, Any]] = {"event_hooks": {"request": [_plain], "response": [_bound]}}
"""Options of an `httpx2.AsyncClient` that asks for plain answers and takes none of over a megabyte."""
