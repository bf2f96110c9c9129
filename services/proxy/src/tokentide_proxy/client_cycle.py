"""One request of a client and its answer: uvicorn's own, which can be answered without messages as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tokentide_proxy.exchange import Headers
from tokentide_proxy.familiar_head import FamiliarHead

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

    from tokentide_proxy.client_connection import ClientConnection

EXTENSION: Final = "tokentide.client"
"""Under this name the `extensions` of a request's scope hold its `Cycle`."""
_BODILESS: Final = frozenset({204, 304})
# What no header may contain; a line break would begin another header, and is counted.
_CONTROLS: Final = bytes({*range(32), 127} - set(b"\t\r\n"))


class Drained(Protocol):
    """What a server waits for before it ends, and in the end cancels: a task, or what stands for one."""

    def cancel(self, msg: str | None = None) -> bool:
        """End soon."""


class KnownRequest:
    """A request that may come again with another body, and what was found out about it."""

    __slots__ = ("_headers", "_keep_alive", "_length_at", "_method", "_target", "head", "plan")

    def __init__(self, head: FamiliarHead, cycle: Cycle) -> None:
        self.head = head
        self.plan: object | None = None
        """Whoever answers it may leave here what saves work the next time."""
        self._method, self._target, self._headers = cycle.method, cycle.target, cycle.headers
        self._keep_alive = cycle.keep_alive
        self._length_at = [name for name, _ in cycle.headers].index(b"content-length")

    def asked_again(self, connection: ClientConnection, body: bytes) -> Cycle:
        """Return the request with this body."""
        headers = self._headers.copy()
        headers[self._length_at] = (b"content-length", b"%d" % len(body))
        cycle = Cycle(
            connection,
            self._method,
            self._target,
            headers,
            keep_alive=self._keep_alive,
            expects_continue=False,
        )
        cycle.body, cycle.more_body, cycle.known = body, False, self
        return cycle


class Cycle(RequestResponseCycle):
    """`begin` and `write` do what messages do, at a third of the cost; their order is the caller's affair."""

    # The server's own sets these for each request; mostly they stay as they are.
    access_log = False
    body: bytes | bytearray = b""  # type: ignore[assignment]  # its first piece is not copied
    more_body = True
    disconnected = False
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    known: KnownRequest | None = None
    # Compiled, what the class itself declares is found without a look into a dictionary.
    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    keep_alive: bool
    waiting_for_100_continue: bool
    on_response: Callable[..., None]

    def __init__(
        self,
        connection: ClientConnection,
        method: bytes,
        target: bytes,
        headers: Headers,
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        # Not the server's own: what messages need is made where there are messages.
        self.method = method
        self.target = target
        """Path and query, byte for byte."""
        self.headers = headers
        self.transport = connection.transport
        self.flow = connection.flow
        """Whether the client takes what it is sent: nothing more should be written until it does."""
        self.loop = connection.loop
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.on_response = connection.on_response_complete
        self._connection = connection
        self._has_messages = False
        self._head = b""
        """Of an answer whose first piece is about to come: both go in one packet."""

    @property
    def peer(self) -> str:
        """The address of the client."""
        client = self._connection.client
        return client[0] if client else ""

    def expect_messages(self, scope: dict[str, Any]) -> None:
        """Get ready for an ASGI application."""
        connection = self._connection
        self.scope: HTTPScope = scope  # type: ignore[assignment]  # made by hand, each field of it
        self.logger, self.access_logger = connection.logger, connection.access_logger
        self.default_headers = connection.server_state.default_headers
        self.message_event = asyncio.Event()
        self._has_messages = True
        if self.body or not self.more_body or self.disconnected:
            self.message_event.set()

    def stir(self) -> None:
        """Something has come: whoever waits for a message looks for it."""
        if self._has_messages:
            self.message_event.set()

    def serve_in_task(self) -> None:
        """Have it answered by the application, in a task: there is something to be waited for."""
        self._connection.serve_in_task(self)

    def watch(self, gone: Callable[[], object] | None) -> None:
        """Have `gone` called at the moment when the client has left before its answer was complete."""
        self._connection.watch(self, gone)

    def when_drained(self, go_on: Callable[[], object] | None) -> None:
        """Have `go_on` called each time when a client that was `full` takes more."""
        self._connection.when_drained = go_on

    def drain(self, work: Drained) -> None:
        """Let the server wait for this work, and cancel it when it takes too long."""
        self._connection.tasks.add(work)  # type: ignore[arg-type]  # it is treated like a task

    def drained(self, work: Drained) -> None:
        """This work is done."""
        self._connection.tasks.discard(work)

    def cut(self) -> None:
        """End the connection so that the client sees that its answer is not complete."""
        self.disconnected = True
        self.transport.close()

    def arrived(self) -> bytes | None:
        """Return the request's body where all of it has come; None where it must be waited for."""
        if self.more_body or self.waiting_for_100_continue or self.disconnected:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()  # a client that leaves is noticed only where it is read
        return bytes(self.body)

    def forget_body(self) -> None:
        """Hold no more of the request's body, if it has come whole and was asked for."""
        if not self.more_body:
            self.body = b""

    def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer; `write` or `flush` send its head. Raises `ValueError` for what is no header."""
        if self.disconnected:
            return
        pieces, lines = [_status_line(status)], 2 + len(headers)
        length: bytes | None = None
        for name, value in headers:
            pieces += (b"\r\n", name, b": ", value)
            if name == b"content-length":
                length = value
        if self.method == b"HEAD" or status in _BODILESS:
            self.chunked_encoding = False
        elif length is not None:
            self.chunked_encoding, self.expected_content_length = False, int(length)
        else:
            self.chunked_encoding = True
            pieces.append(b"\r\ntransfer-encoding: chunked")
            lines += 1
        if not self.keep_alive:
            pieces.append(b"\r\nconnection: close")
            lines += 1
        pieces.append(b"\r\n\r\n")
        head = b"".join(pieces)
        if head.count(b"\n") != lines or len(head.translate(None, _CONTROLS)) != len(head):
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
        if piece and last and self.keep_alive:
            self._connection.write_soon(piece)
        elif piece:
            self.transport.write(piece)
        if last:
            self._end()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer of our own as a whole."""
        self.begin(status, headers)
        if self.method == b"HEAD":
            self.expected_content_length, body = 0, b""
        self.write(body, last=True)

    def _end(self) -> None:
        self.response_complete = True
        self.stir()
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
