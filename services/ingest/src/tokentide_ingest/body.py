"""Reads a request's body from the server: bounded in size, memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from litestar.types import Receive

from tokentide_common.errors import InvalidRequest
from tokentide_ingest.decompress import BodyDecoder, too_large

MAX_BODY_BYTES: Final = 10 * 2**20


async def read_body(
    receive: Receive,
    headers: Mapping[str, str],
    *,
    hold: Callable[[int], None],
    timeout_s: float,
    limit: int = MAX_BODY_BYTES,
) -> bytearray:
    """Return the decompressed body; `hold` is told of every byte before the next chunk is read.

    Raises `UnsupportedEncoding`, `TooLarge` or `InvalidRequest`, and whatever `hold` raises.
    """
    decoder = BodyDecoder(headers.get("content-encoding", ""), limit)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)  # before the first byte is read: a client that asked first sends none
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise InvalidRequest("the connection ended within the body", code="body_incomplete")
                hold(decoder.feed(message.get("body", b"")))
                if not message.get("more_body", False):
                    return decoder.finish()
    except TimeoutError:
        raise InvalidRequest(f"the body took over {timeout_s:g} seconds", code="body_timeout") from None
