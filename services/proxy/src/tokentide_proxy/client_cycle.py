"""One request of a client and its answer: uvicorn's own, which can be answered without messages as well."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tokentide_proxy.exchange import Headers

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

    from tokentide_proxy.client_connection import ClientConnection

_BODILESS: Final = frozenset({204, 304})
# What no header may contain; a line break would begin another header, and is counted.
_CONTROLS: Final = bytes({*range(32), 127} - set(b"\t\r\n"))


class Cycle(RequestResponseCycle):
    """`begin` and `write` do what messages do, at a third of the cost; their order is the caller's affair."""

    def __init__(self, connection: ClientConnection, scope: dict[str, Any], *, keep_alive: bool) -> None:
        typed: HTTPScope = scope  # type: ignore[assignment]  # made by hand, each field of it
        super().__init__(
            scope=typed,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=keep_alive,
            on_response=connection.on_response_complete,
        )
        self._head = b""
        """Of an answer whose first piece is about to come: both go in one packet."""

    def arrived(self) -> bytes | None:
        """Return the request's body where all of it has come; None where it must be waited for."""
        if self.more_body or self.waiting_for_100_continue or self.disconnected:
            return None
        self.flow.resume_reading()  # a client that leaves is noticed only where it is read
        return bytes(self.body)

    def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer; `write` or `flush` send its head. Raises `ValueError` for what is no header."""
        if self.disconnected:
            return
        lines = [_status_line(status), *map(b": ".join, headers)]
        fields = dict(headers)
        length = fields.get(b"content-length")
        if self.scope["method"] == "HEAD" or status in _BODILESS:
            self.chunked_encoding = False
        elif length is not None:
            self.chunked_encoding, self.expected_content_length = False, int(length)
        else:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked")
        if not self.keep_alive:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if head.count(b"\n") != len(lines) + 1 or len(head.translate(None, _CONTROLS)) != len(head):
            raise ValueError("a header with a control character")
        self.response_started = True
        self.waiting_for_100_continue = False
        self._head = head

    def flush(self) -> None:
        """Send the head now: its body is still to come."""
        head, self._head = self._head, b""
        if head and not self.disconnected:
            self.transport.write(head)

    def write(self, piece: bytes, *, last: bool) -> None:
        """Send a part of the answer's body, at the end of it with what ends it."""
        if self.disconnected or self.response_complete:
            return
        if self.chunked_encoding:
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            piece = framed + b"0\r\n\r\n" if last else framed
        else:
            self.expected_content_length -= len(piece)
            if self.expected_content_length < 0 or (last and self.expected_content_length):
                raise ValueError("a body that is not as long as its head says")
        if self._head:
            piece, self._head = self._head + piece, b""
        self.transport.write(piece)
        if last:
            self._end()

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@lru_cache(maxsize=512)
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode("ascii")
