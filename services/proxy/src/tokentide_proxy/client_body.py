"""A request's body on its way through: bounded, never held as a whole, with a copy of what is short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from tokentide_common.errors import InvalidRequest, TooLarge
from tokentide_proxy.attribution import MAX_READ_BODY
from tokentide_proxy.exchange import Headers

Receive = Callable[[], Awaitable[Any]]


class ClientBody:
    """Iterate over its `pieces` once, unless it is `whole`."""

    __slots__ = ("_begun", "_left", "_receive", "_wanted", "copy", "sent", "whole")

    def __init__(self, receive: Receive, headers: Headers, *, max_bytes: int, wanted: bool) -> None:
        declared = int(dict(headers).get(b"content-length") or 0)
        if declared > max_bytes:
            raise _too_large()
        self.whole: bytes | None = None
        """What is to be sent, where all of it has come."""
        self.copy: bytes | bytearray = b""
        """What the client has sent, for attribution, up to `MAX_READ_BODY`; of a longer body nothing."""
        self.sent = False
        """All of it has been handed on."""
        self._receive = receive
        self._left = max_bytes
        self._wanted = wanted and declared <= MAX_READ_BODY
        self._begun = b""

    async def begin(self, arrived: bytes | None) -> None:
        """Wait for the first part of it, unless all has arrived, as it often has."""
        piece, more = (await self._next()) if arrived is None else (self._allowed(arrived), False)
        if more:
            self._begun = piece
        else:
            self._complete(piece)

    async def gather(self, max_bytes: int) -> None:
        """Wait for all of it, unless it is longer than that."""
        held, more = bytearray(self._begun), self.whole is None
        while more and len(held) <= max_bytes:
            piece, more = await self._next()
            held += piece
        if more:
            self._begun = bytes(held)
        elif self.whole is None:
            self._complete(bytes(held))

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what has come, then the rest as it comes."""
        piece, self._begun, more = self._begun, b"", True
        self._keep(piece)
        yield piece
        while more:
            piece, more = await self._next()
            self._keep(piece)
            yield piece
        self.sent = True

    @property
    def held_bytes(self) -> int:
        """How much of it is held."""
        return max(len(self.copy), len(self.whole or b""))

    def forget(self) -> None:
        """Hold no more of what was sent."""
        self.whole, self.copy = b"", b""

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] != "http.request":
            raise InvalidRequest("the connection ended within the body", code="body_incomplete")
        return self._allowed(cast("bytes", message["body"])), message["more_body"]

    def _allowed(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        if self._left < 0:
            raise _too_large()
        return piece

    def _complete(self, body: bytes) -> None:
        self.whole, self.sent = body, True
        self._keep(body)

    def _keep(self, piece: bytes) -> None:
        if not self._wanted:
            return
        if len(self.copy) + len(piece) > MAX_READ_BODY:
            self._wanted, self.copy = False, b""
        elif not self.copy:
            self.copy = piece
        elif isinstance(self.copy, bytearray):
            self.copy += piece
        else:
            self.copy = bytearray(self.copy) + piece


def _too_large() -> TooLarge:
    return TooLarge("the body of the request is larger than TOKENTIDE_PROXY_MAX_BODY_BYTES allows")
