"""An answer, as it comes: its head is there, its body is passed on while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tokentide_proxy.exchange import Headers


class Source(Protocol):
    """The connection that an answer comes from, as far as the answer is concerned."""

    def pause(self) -> None:
        """Take no more from the upstream."""

    def resume(self) -> None:
        """Take more from the upstream."""

    def abort(self) -> None:
        """Close the connection now."""


class Sink(Protocol):
    """Where the body of an answer goes. Either way of taking returns False for: no more until `resume`."""

    def take(self, piece: bytes, *, last: bool) -> bool:
        """Take a piece, the last one of a complete body or not."""

    def take_chunk(self, chunk: bytes, start: int) -> bool:
        """Take a piece as the chunk it came in; its payload begins at `start` and ends with the line."""


Over = Callable[[BaseException | None], None]
"""Called when all of an answer has been passed on, or with why it was not."""


class Response:
    """`pass_to` a sink, once: each piece goes there in the moment it was read, transfer coding removed.

    Whoever does not stay to the end calls `abort`: a connection whose reader is gone would wait for ever.
    """

    __slots__ = (
        "_buffered",
        "_error",
        "_high",
        "_last",
        "_loop",
        "_over",
        "_paused",
        "_pieces",
        "_sink",
        "_source",
        "headers",
        "sent_at",
        "status",
    )

    def __init__(
        self,
        source: Source,
        status: int,
        headers: Headers,
        *,
        high: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.status = status
        self.headers = headers
        self.sent_at = 0.0
        """When the last byte of the request was handed over, by `time.monotonic`; 0 before that."""
        self._source: Source | None = source
        self._loop = loop
        self._sink: Sink | None = None
        self._over: Over | None = None
        self._pieces: list[bytes] = []
        """What has come and could not be passed on yet."""
        self._last = False
        """The last of them is the last one of the answer."""
        self._buffered = 0
        self._high = high
        self._paused = False
        self._error: BaseException | None = None

    def pass_to(self, sink: Sink) -> asyncio.Future[None]:
        """Pass on what has come, and from now on what comes; the future is the end of it.

        It raises an `UpstreamError` where the upstream broke off, after all that came before, or whatever the
        sink has raised.
        """
        over = self._loop.create_future()

        def settle(error: BaseException | None) -> None:
            if over.done():
                return
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        self.pass_on(sink, settle)
        return over

    def pass_on(self, sink: Sink, over: Over) -> None:
        """Do as `pass_to` does, and call `over` at the end, once."""
        self._sink = sink
        self._over = over
        self._go_on()

    def resume(self) -> None:
        """The sink can take more."""
        if self._paused and self._sink is not None:
            self._go_on()

    def abort(self) -> None:
        """Close the upstream connection at once, unless the answer is complete already."""
        if self._source is not None:
            self._source.abort()

    def take(self, piece: bytes, *, last: bool) -> None:
        """Pass a piece on, or hold it; with too much in hand the upstream has to wait."""
        sink = self._sink
        if sink is None or self._paused:
            self._pieces.append(piece)
            self._last = last
            self._buffered += len(piece)
            if self._buffered > self._high and not self._paused:
                self._pause()
            return
        try:
            if not sink.take(piece, last=last):
                self._pause()
        except Exception as error:
            # Raised where the connection is read, which is not at fault: whoever waits for the end is told.
            self._error = error
            self.abort()

    def pass_chunk(self, chunk: bytes, start: int) -> bool:
        """Pass a whole chunk on, framing and all; False: not now, it is to be taken as any other piece."""
        sink = self._sink
        if sink is None or self._paused:
            return False
        try:
            if not sink.take_chunk(chunk, start):
                self._pause()
        except Exception as error:
            self._error = error  # as in `take`
            self.abort()
        return True

    def end(self) -> None:
        """The answer is complete; its connection has no more to do with it."""
        self._source = None
        self._settle()

    def fail(self, error: BaseException) -> None:
        """The answer breaks off here."""
        if self._error is None:
            self._error = error
        self._source = None
        self._settle()

    def _go_on(self) -> None:
        was_paused, self._paused = self._paused, False
        if self._pieces:
            held, self._pieces = self._pieces, []
            last, self._last = self._last, False
            self._buffered, error = 0, self._error
            for number, piece in enumerate(held, 1):
                if self._error is not error:
                    break
                self.take(piece, last=last and number == len(held))
        if was_paused and not self._paused and self._source is not None:
            self._source.resume()
        self._settle()

    def _pause(self) -> None:
        self._paused = True
        if self._source is not None:
            self._source.pause()

    def _settle(self) -> None:
        over = self._over
        if self._source is None and not self._pieces and over is not None:
            self._over = None
            over(self._error)
