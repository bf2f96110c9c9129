"""An answer, as it comes: its head is there, its body is read while it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, Self

from tokentide_proxy.exchange import Headers


class Source(Protocol):
    """The connection that an answer comes from, as far as the answer is concerned."""

    def pause(self) -> None:
        """Take no more from the upstream."""

    def resume(self) -> None:
        """Take more from the upstream."""

    def abort(self) -> None:
        """Close the connection now."""


class Response:
    """Iterate over it once: each piece of the body comes as it was read, transfer coding removed.

    The iteration raises an `UpstreamError` where the upstream broke off, after all that came before. Whoever
    does not read to the end calls `abort`: a connection whose reader is gone would wait for it for ever.
    """

    __slots__ = (
        "_buffered",
        "_error",
        "_high",
        "_paused",
        "_pieces",
        "_source",
        "_waiter",
        "headers",
        "reason",
        "sent_at",
        "status",
        "trailers",
    )

    def __init__(self, source: Source, status: int, reason: bytes, headers: Headers, high: int) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.trailers: Headers = []
        """There once the body has been read to its end."""
        self.sent_at = 0.0
        """When the last byte of the request was handed over, by `time.monotonic`; 0 before that."""
        self._source: Source | None = source
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._high = high
        self._paused = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its own end, read or not."""
        return self._source is None and self._error is None

    @property
    def at_end(self) -> bool:
        """Whether the answer has come to its own end, and all of it has been read."""
        return self._source is None and self._error is None and not self._pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._source is None:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._paused and self._buffered <= self._high // 4:
            self._paused = False
            if self._source is not None:
                self._source.resume()
        return piece

    def abort(self) -> None:
        """Close the upstream connection at once, unless the answer is complete already."""
        if self._source is not None:
            self._source.abort()

    def take(self, piece: bytes) -> None:
        """Hold a piece for the reader; with too much in hand the upstream has to wait."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > self._high and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause()
        self._wake()

    def end(self, trailers: Headers) -> None:
        """The answer is complete; its connection has no more to do with it."""
        self.trailers = trailers
        self._source = None
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The answer breaks off here."""
        self._error = error
        self._source = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
