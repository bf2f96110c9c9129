"""An answer on its way to the client: each piece goes out in the moment it comes, and is read afterwards."""

from __future__ import annotations

from time import monotonic

from tokentide_proxy.client_connection import Client
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.usage.usage_chunk import UsageChunkFilter


class Delivery:
    """Takes the pieces of one answer; `hiding` keeps from the client what it did not ask for."""

    __slots__ = ("_client", "_ended", "_exchange", "_hiding", "_reader")

    def __init__(self, exchange: Exchange, client: Client, hiding: UsageChunkFilter | None) -> None:
        self._exchange = exchange
        self._client = client
        self._hiding = hiding
        self._reader = exchange.reader
        self._ended = False

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
        if self._reader is not None:
            self._reader.feed(piece)  # after it has gone out: what is noted of an answer never delays it
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
