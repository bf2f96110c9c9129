"""A client's connection: uvicorn's own, which is stricter here and tells at once when the client has gone.

llhttp refuses what two readers could understand in two ways: a length beside chunks, two lengths, folded
lines, bare LF, bad chunks. What it lets pass, and what it does not bound, is refused here. After a refusal
nothing more of the connection is read: what follows could be the inside of a request.
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tokentide_common.problem import MEDIA_TYPE, Problem
from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.exchange import Headers

EXTENSION: Final = "tokentide.client"
"""Under this name the `extensions` of a request's scope hold its `Client`."""
_CHECKS_PER_LIMIT: Final = 4
_MAX_CHECK_S: Final = 5.0
_LINGER_S: Final = 1.0
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long we wait for a client, in seconds, and how much of a head we take."""

    head_s: float = 30.0
    """From the beginning of a connection, or of a request on it, to the end of the request's head."""
    idle_s: float = 300.0
    """Between two parts of a request's body, and for a part of an answer to be taken."""
    max_head_bytes: int = 1 << 16
    max_headers: int = 256


class Client:
    """Who sent one request, while it is answered."""

    __slots__ = ("_connection", "_cycle", "arrived", "begin", "flow", "flush", "loop", "target", "write")

    def __init__(self, connection: ClientConnection, cycle: Cycle, target: bytes) -> None:
        self.target = target
        """Path and query, byte for byte."""
        self.loop = connection.loop
        self.flow = connection.flow
        """Whether the client takes what it is sent: nothing more should be written until it does."""
        self.arrived = cycle.arrived
        self.begin = cycle.begin
        self.flush = cycle.flush
        self.write = cycle.write
        self._connection = connection
        self._cycle = cycle

    @property
    def gone(self) -> bool:
        """Whether the client has left before its answer was complete."""
        return self._cycle.disconnected

    def watch(self, gone: Callable[[], object] | None) -> None:
        """Have `gone` called at the moment when the client has left before its answer was complete."""
        self._connection.watch(self._cycle, gone)

    def when_drained(self, go_on: Callable[[], object] | None) -> None:
        """Have `go_on` called each time when a client that was `full` takes more."""
        self._connection.when_drained = go_on

    def cut(self) -> None:
        """End the connection so that the client sees that its answer is not complete."""
        self._cycle.disconnected = True
        self._connection.transport.close()


class _Refused(Exception):
    """The request is not one that is served; the message is for its sender."""

    def __init__(self, *, code: str, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:tokentide:error:{code}",
            title=title,
            status=status,
            detail=detail,
            code=code,
            instance=uuid.uuid4().hex,
        )


class ClientConnection(HttpToolsProtocol):
    """Made by the server for each connection."""

    def __init__(self, limits: ClientLimits, **of_server: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(**of_server)
        self._limits = limits
        self._check_s = min(min(limits.head_s, limits.idle_s) / _CHECKS_PER_LIMIT, _MAX_CHECK_S)
        self._check: asyncio.TimerHandle | None = None
        self._head_since: float | None = None
        """Since when the client owes us a head, or the rest of a body that nobody reads any more."""
        self._head_bytes = self._read_bytes = 0
        self._in_body = False
        self._heard_at = self._blocked_at = 0.0
        self._refused: _Refused | None = None
        self._running: RequestResponseCycle | None = None
        """What is answered now; `cycle` is the newest request, which may have to wait for it."""
        self._gone: Callable[[], object] | None = None
        self.when_drained: Callable[[], object] | None = None
        """Called when a client that did not take its answer takes more of it."""
        self._rests_since: float | None = None
        """Since when nothing is asked of us."""

    def watch(self, cycle: RequestResponseCycle, gone: Callable[[], object] | None) -> None:
        """Call `gone` when the client leaves before the cycle has ended, at once if it has left."""
        if cycle.disconnected and gone is not None:
            gone()
        else:
            self._gone = gone

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._check = self.loop.call_later(self._check_s, self._check_times)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers, also where another request is waiting behind this one."""
        if self._check is not None:
            self._check.cancel()
        self.pipeline.clear()
        self._lose_client()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; refuse what cannot be trusted."""
        if self._refused is not None:
            return
        self._rests_since = None
        self._heard_at = now = self.loop.time()
        self._read_bytes = len(data)
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_since is None:
                self._head_since = now
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, _Refused) else _malformed())
        else:
            if not self._in_body and self._head_bytes > self._limits.max_head_bytes:
                self._refuse(_head_too_large())

    def pause_writing(self) -> None:
        """Make the answer wait for its reader."""
        self._blocked_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Let the answer go on."""
        super().resume_writing()
        if self.when_drained is not None:
            self.when_drained()

    # And this by the parser.

    def on_message_begin(self) -> None:
        """Begin to collect a head."""
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is none, and must not become one."""
        if not self._in_body:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Judge the head before anything is done for it."""
        # A head that follows another request in one read has no more bytes than that read.
        at_most = max(self._head_bytes, self._read_bytes)
        refused = _judged(self.parser, self.url, self.headers, self._limits, at_most)
        if refused is not None:
            raise refused
        self._head_since, self._head_bytes, self._in_body = None, 0, True
        answering, scope = self.cycle, self._scope()
        self.expect_100_continue = dict(self.headers).get(b"expect", b"").lower() == b"100-continue"
        self.cycle = cycle = Cycle(self, scope, keep_alive=self.parser.should_keep_alive())
        scope["extensions"] = {EXTENSION: Client(self, cycle, self.url)}
        if answering is None or answering.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Hold a part of the body until it is asked for; one that comes after its answer is dropped."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_body = False
        # A body that comes after its answer has used up the server's patience for the next request.
        self._head_since = self.loop.time() if self.cycle.response_complete else None
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # And this by the server and the answer under way.

    def on_response_complete(self) -> None:
        """Go on with the next request; the rest of this one's body is not waited for without end."""
        now = self.loop.time()
        if self._in_body:
            self._head_since = now
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._rests_since = now  # looked at now and then: a timer for each request would cost more

    def _scope(self) -> dict[str, Any]:
        path, _, query = self.url.partition(b"?")
        text = path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": self.app_state.copy(),
        }

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running, self._gone = cycle, None
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _check_times(self) -> None:
        if self.transport.is_closing():
            return
        now, limits, running = self.loop.time(), self._limits, self._running
        if running is not None and not running.response_complete:
            awaits_body = self._in_body and running is self.cycle and not self.flow.read_paused
            since = self._heard_at if awaits_body else now
            if self.flow.write_paused:
                since = min(since, self._blocked_at)
            late = now - since > limits.idle_s
        elif self._rests_since is not None and now - self._rests_since > self.timeout_keep_alive:
            self.transport.close()
            return
        else:
            late = self._head_since is not None and now - self._head_since > limits.head_s
        if late:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(self._check_s, self._check_times)

    def _refuse(self, refused: _Refused) -> None:
        self._refused = refused
        self.pipeline.clear()
        running = self._running
        if running is None or running.response_complete:
            self._answer(refused.problem)
        elif running is not self.cycle or not self._in_body:
            running.keep_alive = False  # an earlier request is being answered, and was a good one
        elif running.response_started:
            self.transport.abort()
        else:
            self._lose_client()
            self._answer(refused.problem)

    def _answer(self, problem: Problem) -> None:
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {problem.instance}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # To close with bytes unread would make the client's system drop our answer before it is read.
        self.loop.call_later(_LINGER_S, self.transport.abort)

    def _lose_client(self) -> None:
        running, gone, self._gone = self._running, self._gone, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
            if gone is not None:
                gone()


def client_connections(limits: ClientLimits) -> Callable[..., ClientConnection]:
    """Return what uvicorn takes for its `http` option."""
    return functools.partial(ClientConnection, limits)


def _judged(
    parser: httptools.HttpRequestParser, target: bytes, headers: Headers, limits: ClientLimits, at_most: int
) -> _Refused | None:
    """Return why a head of `at_most` so many bytes is refused that llhttp has accepted, None if it is not."""
    if len(headers) > limits.max_headers or (
        at_most > limits.max_head_bytes
        and len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > limits.max_head_bytes
    ):
        return _head_too_large()
    if parser.get_http_version() != "1.1":
        return _Refused(
            code="http_version_not_supported",
            status=505,
            title="HTTP version not supported",
            detail="The proxy speaks HTTP/1.1.",
        )
    if parser.get_method() == b"TRACE":
        # What comes back is the request, with the provider's key that we have put in.
        return _Refused(
            code="method_not_allowed",
            status=405,
            title="Method not allowed",
            detail="TRACE does not go through.",
        )
    fields = dict(headers)
    coding = fields.get(b"transfer-encoding")
    if (
        # llhttp reads no body behind a head that asks for another protocol.
        parser.should_upgrade()
        or (coding is not None and coding.lower() != b"chunked")
        or (len(fields) != len(headers) and not _ONCE.isdisjoint(_repeated(headers)))
        or b"host" not in fields
        or target[:1] != b"/"
    ):
        return _malformed()
    return None


def _repeated(headers: Headers) -> Iterator[bytes]:
    names = [name for name, _ in headers]
    return (name for name in names if names.count(name) > 1)


def _malformed() -> _Refused:
    return _Refused(
        code="invalid_request",
        status=400,
        title="Invalid request",
        detail="This is not a request of HTTP/1.1 that has one meaning.",
    )


def _head_too_large() -> _Refused:
    return _Refused(
        code="head_too_large",
        status=431,
        title="Request header fields too large",
        detail="The head of the request is over its bounds.",
    )
