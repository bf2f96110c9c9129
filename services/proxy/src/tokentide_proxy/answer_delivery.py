"""An answer on its way to the client: each piece goes out in the moment it comes, and is read afterwards."""

from __future__ import annotations

from time import monotonic
from typing import Final

from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.headers import response_headers
from tokentide_proxy.response import Response
from tokentide_proxy.stream_usage import usage_hidden
from tokentide_proxy.upstream_errors import UpstreamBroken
from tokentide_proxy.usage.usage_chunk import UsageChunkFilter

_LAST_STATUS: Final = 599


class Delivery:
    """Takes the pieces of one answer; `hiding` keeps from the client what it did not ask for."""

    __slots__ = ("_client", "_ended", "_exchange", "_hiding", "_in_chunks", "_reader")

    def __init__(self, exchange: Exchange, client: Cycle, hiding: UsageChunkFilter | None) -> None:
        self._exchange = exchange
        self._client = client
        self._hiding = hiding
        self._reader = exchange.reader
        self._ended = False
        self._in_chunks = False
        """The head of the answer is out, and chunks can go as they come."""

    def take(self, piece: bytes, *, last: bool) -> bool:
        """Send a piece, note what it says, and return whether the client takes more."""
        exchange, hiding, client = self._exchange, self._hiding, self._client
        first = not exchange.first_byte_at
        if first:
            exchange.first_byte_at = monotonic()
        if hiding is None:
            self._ended = last
            client.write(piece, last=last)
        elif shown := hiding.feed(piece):
            client.write(shown, last=False)
        if first:
            exchange.first_byte_sent_at = monotonic()
            self._in_chunks = hiding is None and client.chunked_encoding is True
            if exchange.is_long:
                client.loop.call_soon(_forget_request, exchange, client)  # the piece goes out before
        if self._reader is not None:
            self._reader.feed(piece)  # after it has gone out: what is noted of an answer never delays it
        return not client.flow.write_paused

    def take_chunk(self, chunk: bytes, start: int) -> bool:
        """Send a piece as it came, if the client's answer is in chunks as well, and note what it says."""
        client, reader = self._client, self._reader
        if not self._in_chunks or client.disconnected:
            return self.take(chunk[start:-2], last=False)
        client.transport.write(chunk)
        if reader is not None:
            reader.feed(chunk[start:-2])
        return not client.flow.write_paused

    def end_hiding(self) -> None:
        """Send what was held back and need not be hidden, also of an answer that has broken off."""
        held = b"" if self._hiding is None else self._hiding.end()
        if held:
            self._client.write(held, last=False)

    def end(self) -> None:
        """The answer is complete."""
        if not self._ended:
            self._client.write(b"", last=True)
        self._exchange.complete = True


def _forget_request(exchange: Exchange, client: Cycle) -> None:
    exchange.forget_request()
    client.forget_body()


def begin_answer(exchange: Exchange, response: Response, client: Cycle, *, hides_usage: bool) -> Delivery:
    """Begin to answer a client, whose head still waits for what comes with it; return what takes the body."""
    status, headers = response.status, response_headers(response.headers, response.status)
    if status > _LAST_STATUS:
        raise UpstreamBroken("a status that HTTP does not have")
    hiding = None
    if hides_usage:
        hiding, headers = usage_hidden(status, headers)
    exchange.answered(status, response.headers)
    client.begin(status, headers)
    client.when_drained(response.resume)
    return Delivery(exchange, client, hiding)
