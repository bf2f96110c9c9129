"""What tests of the upstream client share: a client, an upstream's name, and an answer read to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

from infra.raw_upstream import RawUpstream
from tokentide_proxy.exchange import Headers, Upstream
from tokentide_proxy.response import Response
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_limits import UpstreamLimits

HEADERS: Headers = [(b"host", b"api.example"), (b"content-type", b"application/json")]


@dataclass
class Read:
    """An answer as its reader saw it."""

    status: int
    headers: Headers
    pieces: list[bytes] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def named(port: int, **other: object) -> Upstream:
    """The upstream on this port of the loopback interface, which is permitted for it."""
    known = {
        "name": "test",
        "dialect": "anthropic",
        "provider": "anthropic",
        "scheme": "http",
        "host": "127.0.0.1",
        "port": port,
        "allow_private": True,
    }
    return Upstream(**{**known, **other})  # type: ignore[arg-type]  # a test names what it changes


class Reader:
    """A sink that takes a piece when it is asked for one, and no other."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._over = response.pass_to(self)
        self._over.add_done_callback(lambda _: self._pieces.put_nowait(None))

    def take(self, piece: bytes, *, last: bool) -> bool:
        self._pieces.put_nowait(piece)
        return False

    def take_chunk(self, chunk: bytes, start: int) -> bool:
        return self.take(chunk[start:-2], last=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces.empty():
            self.response.resume()
        piece = await self._pieces.get()
        if piece is None:
            self._pieces.put_nowait(None)
            self._over.result()
            raise StopAsyncIteration
        return piece


async def read(response: Response | Reader) -> Read:
    """Read to the end, or to the break, which is part of what was read."""
    reader = response if isinstance(response, Reader) else Reader(response)
    response = reader.response
    seen = Read(response.status, response.headers)
    try:
        async for piece in reader:
            seen.pieces.append(piece)
    except Exception as error:
        seen.error = error
    return seen


@contextlib.asynccontextmanager
async def upstream_client(**limits: float) -> AsyncIterator[UpstreamClient]:
    """A client, which leaves no connection behind."""
    client = UpstreamClient(UpstreamLimits(**limits))  # type: ignore[arg-type]  # sizes are whole numbers
    await client.start()
    try:
        yield client
    finally:
        await client.stop()
    assert client.connections == 0


@contextlib.asynccontextmanager
async def talking(upstream: RawUpstream, **limits: float) -> AsyncIterator[tuple[UpstreamClient, Upstream]]:
    """A client and the upstream that it talks to."""
    async with upstream, upstream_client(**limits) as client:
        yield client, named(upstream.port)


async def pieces(*parts: bytes, after: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """Stream a body in parts, which ends at once or with an event."""
    for part in parts:
        yield part
    if after is not None:
        await after.wait()
