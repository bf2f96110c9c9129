"""One connection to an upstream: one exchange at a time, its times, and whether it can take another."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol, cast

from tokentide_proxy.answer_parser import AnswerParser, payload_start
from tokentide_proxy.outgoing import Outgoing
from tokentide_proxy.request_body import send_body
from tokentide_proxy.response import Response
from tokentide_proxy.upstream_errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from tokentide_proxy.upstream_limits import UpstreamLimits
from tokentide_proxy.upstream_request import UpstreamRequest

Origin = tuple[str, str, int, bool]
"""Scheme, host, port, and whether a private address was permitted."""
_ONE_WRITE_BYTES: Final = 1 << 16


class Asker(Protocol):
    """Who has sent a request. One of the two is called, and once."""

    def answered(self, response: Response) -> None:
        """The head of the answer is there, and with it what came of the body in the same read."""

    def unanswered(self, error: BaseException) -> None:
        """There is no answer."""


class Keeper(Protocol):
    """Who keeps connections between exchanges."""

    def keep(self, connection: Connection) -> None:
        """Take back a connection that is ready for another exchange."""

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""


class Connection(asyncio.Protocol):
    """Made by the event loop; used by the client for one exchange after another."""

    __slots__ = (
        "_asker",
        "_closed_on_us",
        "_drained",
        "_idempotent",
        "_keeper",
        "_limits",
        "_loop",
        "_moves",
        "_outgoing",
        "_parser",
        "_reading_paused",
        "_response",
        "_sender",
        "_sent",
        "_sent_at",
        "_since",
        "_transport",
        "_unsent",
        "_writing_paused",
        "heard",
        "opened_at",
        "origin",
        "used",
    )

    def __init__(
        self,
        origin: Origin,
        keeper: Keeper,
        limits: UpstreamLimits,
        loop: asyncio.AbstractEventLoop,
        outgoing: Outgoing,
    ) -> None:
        self.origin = origin
        self.opened_at = self._since = monotonic()
        self._sent_at = 0.0
        self._moves = False
        """Chunks have passed since the last look at the times."""
        self.used = 0
        """Exchanges so far, the present one included."""
        self.heard = False
        """Whether any byte has come in the present exchange."""
        self._keeper = keeper
        self._limits = limits
        self._loop = loop  # to ask for the running one costs a system call each time
        self._outgoing = outgoing
        self._unsent = b""
        """A request, on its way out."""
        self._parser = AnswerParser(limits)
        self._transport: asyncio.Transport | None = None
        self._asker: Asker | None = None
        self._response: Response | None = None
        self._sender: asyncio.Task[None] | None = None
        self._sent = True
        self._idempotent = False
        self._closed_on_us = False
        self._reading_paused = False
        self._writing_paused = False
        self._drained: asyncio.Future[None] | None = None

    def exchange(self, request: UpstreamRequest, asker: Asker) -> None:
        """Send a request. The head of its answer may come before the body is sent."""
        assert self._transport is not None, "the event loop made the connection"
        self.used += 1
        self.heard = False
        self._parser.expect(answered_by_head=request.answered_by_head)
        self._asker = asker
        self._sent = False
        self._idempotent = request.idempotent
        self._sent_at = 0.0
        self._since = monotonic()
        body = request.whole
        if body is None:
            self._transport.write(request.head)
            self._sender = self._loop.create_task(send_body(self, request))
        elif len(body) < _ONE_WRITE_BYTES:
            self._unsent = request.head + body  # one packet, one system call
            self._outgoing.soon(self, self._loop)
            self.request_sent()
        else:
            self._transport.write(request.head)
            self._transport.write(body)
            self.request_sent()

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._asker is not None or self._response is not None

    @property
    def usable(self) -> bool:
        """Whether another exchange can be tried on it."""
        return self._transport is not None and not self._transport.is_closing()

    def died_of_idleness(self) -> bool:
        """Tell whether the exchange failed since the connection had been closed before it began."""
        limits = self._limits
        within_s = limits.retry_within_s if self._idempotent else limits.retry_post_within_s
        at_once = monotonic() - self._sent_at < within_s
        return self._closed_on_us and self.used > 1 and not self.heard and at_once

    def check(self, now: float) -> None:
        """End what has taken too long. Called every now and then: a timer per read would cost more."""
        if self._moves:
            # Not the moment when it came, which nobody looked up, but at most one look later.
            self._moves, self._since = False, now
        limits, waited = self._limits, now - self._since
        if not self.busy:
            if waited > limits.keep_alive_s or now - self.opened_at > limits.max_age_s:
                self.abort()
        elif not self._sent:
            # A body that does not come is the client's affair; one that is not taken, the upstream's.
            if self._writing_paused and waited > limits.idle_s:
                self.fail(UpstreamTimeout("the upstream takes no more of the request"))
        elif self._response is None:
            if waited > limits.first_byte_s:
                self.fail(UpstreamTimeout("the upstream does not begin its answer"))
        elif not self._reading_paused and waited > limits.idle_s:
            self.fail(UpstreamTimeout("the upstream does not go on with its answer"))

    def abort(self) -> None:
        """Close now. Whoever waits for an answer, or reads one, is told."""
        self.fail(UpstreamBroken("the exchange was given up"))

    def fail(self, error: BaseException) -> None:
        """End the exchange, if there is one, and the connection with it."""
        asker, response = self._asker, self._response
        self._asker = self._response = None
        self._stop_sending()
        if self._transport is not None:
            self._transport.abort()
        if response is not None:
            response.fail(error)
        if asker is not None:
            asker.unanswered(error)

    # The rest is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's is one by duck typing
        made.set_write_buffer_limits(high=self._limits.buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, and let go."""
        self._transport = None
        self._closed_on_us = self.busy
        self.fail(UpstreamBroken("the upstream closed the connection before its answer was complete"))
        self._parser.end()
        self._keeper.forget(self)

    def eof_received(self) -> None:
        """Complete an answer that has no other end; the event loop then closes the connection."""
        if self._parser.ends_here() and self._response is not None:
            self._end_exchange()

    def data_received(self, data: bytes) -> None:
        """Read on, and hand over at once what there is for the reader."""
        parser, response = self._parser, self._response
        if response is not None and parser.between_chunks and (start := payload_start(data)):
            # The common case of a stream. To llhttp it is as if this chunk had never been there.
            self._moves = True
            if response.pass_chunk(data, start):
                return
        if self._asker is None and self._response is None:
            self.abort()  # nobody asked: this connection is not what we take it for
            return
        self._since = monotonic()
        self.heard = True
        broken: UpstreamError | None = None
        try:
            parser.feed(data)
        except UpstreamBroken as error:
            broken = error
        pieces = parser.pieces
        begins = response is None and parser.has_head
        if begins:
            response = self._begun()
        if response is not None and pieces:
            parser.pieces = []
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            response.take(piece, last=parser.complete and broken is None)
        if begins and response is not None:
            asker, self._asker = self._asker, None
            assert asker is not None, "an answer is awaited"
            asker.answered(response)
        if broken is not None:
            self.fail(broken)
        elif self._response is not None and parser.complete:
            self._end_exchange()

    def pause_writing(self) -> None:
        """Make the sender wait."""
        self._writing_paused = True
        self._since = monotonic()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        self._writing_paused = False
        self._since = monotonic()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # And this by the response and the sender.

    def pause(self) -> None:
        """Take no more from the upstream: the reader of the answer is slow."""
        if self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take more from the upstream."""
        self._since = monotonic()  # what the reader took is not the upstream's delay
        if self._reading_paused:
            self._reading_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def write_now(self) -> None:
        """Send a request, if it is not given up yet."""
        unsent, self._unsent = self._unsent, b""
        if unsent and self.usable:
            self.write(unsent)

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if self._transport is not None:
            self._since = monotonic()
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the upstream has taken enough of what was sent."""
        if self._writing_paused:
            self._drained = self._loop.create_future()
            await self._drained

    def request_sent(self) -> None:
        """Begin to wait for the answer."""
        self._sent = True
        self._sent_at = self._since = monotonic()
        if self._response is not None:
            self._response.sent_at = self._sent_at

    def _begun(self) -> Response:
        parser = self._parser
        self._response = response = Response(
            self,
            parser.status,
            parser.headers,
            high=self._limits.buffer_bytes,
            loop=self._loop,
        )
        response.sent_at = self._sent_at
        return response

    def _end_exchange(self) -> None:
        parser, response = self._parser, self._response
        assert response is not None, "only an answer with a head can be complete"
        self._response = None
        self._stop_sending()
        response.end()
        # A request that is not sent to its end would go on as the beginning of the next one.
        if parser.keep_alive and self._sent and not self._unsent and self.usable:
            self.resume()
            self._keeper.keep(self)
        elif self._transport is not None:
            self._transport.abort()

    def _stop_sending(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
