"""A client's connection: uvicorn's own, which is stricter here and tells at once when the client has gone.

llhttp refuses what two readers could understand in two ways: a length beside chunks, two lengths, folded
lines, bare LF, bad chunks. What it lets pass, and what it does not bound, is refused here. After a refusal
nothing more of the connection is read: what follows could be the inside of a request.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokentide_common.problem import MEDIA_TYPE, Problem
from tokentide_proxy.client_cycle import EXTENSION, Cycle, KnownRequest
from tokentide_proxy.client_heads import ClientLimits, Refused, head_too_large, judged, malformed
from tokentide_proxy.familiar_head import FamiliarHead
from tokentide_proxy.outgoing import Outgoing

AT_ONCE: Final = "tokentide.at_once"
"""Under this name the state of the app's life holds what may answer a request without a task."""
_CHECKS_PER_LIMIT: Final = 4
_MAX_CHECK_S: Final = 5.0
_LINGER_S: Final = 1.0
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class ClientConnection(HttpToolsProtocol):
    """Made by the server for each connection."""

    cycle: Cycle | None  # type: ignore[assignment]  # before the first request uvicorn has none, too
    # Compiled, what the class itself declares is found without a look into a dictionary.
    transport: asyncio.Transport
    flow: FlowControl
    loop: asyncio.AbstractEventLoop

    def __init__(self, limits: ClientLimits, outgoing: Outgoing, **of_server: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(**of_server)
        self._limits = limits
        self._outgoing = outgoing
        self._check_s = min(min(limits.head_s, limits.idle_s) / _CHECKS_PER_LIMIT, _MAX_CHECK_S)
        self._check: asyncio.TimerHandle | None = None
        self._head_since: float | None = None
        """Since when the client owes us a head, or the rest of a body that nobody reads any more."""
        self._head_bytes = self._read_bytes = 0
        self._in_body = False
        self._heard_at = self._blocked_at = 0.0
        self._refused: Refused | None = None
        self._running: Cycle | None = None
        """What is answered now; `cycle` is the newest request, which may have to wait for it."""
        self._unserved: Cycle | None = None
        """What is answered as soon as what was read has been looked at."""
        self._known: KnownRequest | None = None
        """The request before."""
        self._at_once: Callable[[Cycle], bool] = self.app_state.get(AT_ONCE, _in_a_task)
        self._gone: Callable[[], object] | None = None
        self.when_drained: Callable[[], object] | None = None
        """Called when a client that did not take its answer takes more of it."""
        self._rests_since: float | None = None
        """Since when nothing is asked of us."""
        self._unsent = b""
        """The end of an answer, on its way out."""

    def watch(self, cycle: Cycle, gone: Callable[[], object] | None) -> None:
        """Call `gone` when the client leaves before the cycle has ended, at once if it has left."""
        if cycle.disconnected and gone is not None:
            gone()
        elif self._running is cycle:
            self._gone = gone

    def write_soon(self, end: bytes) -> None:
        """Send the end of an answer as soon as all that has come by now is read."""
        self._unsent += end
        self._outgoing.soon(self, self.loop)

    def write_now(self) -> None:
        """Send the end of an answer, if it is not on its way yet."""
        # The guarantee: called before anything else is read, written or closed here, so that order is kept.
        unsent, self._unsent = self._unsent, b""
        if unsent and not self.transport.is_closing():
            self.transport.write(unsent)

    def shutdown(self) -> None:
        """Close as soon as what is under way is answered: the server ends."""
        self.write_now()
        super().shutdown()

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
        self.connections.discard(self)
        self.flow.resume_writing()
        self.transport.close()
        # llhttp holds on to this object.
        self.parser = None  # type: ignore[assignment]  # as uvicorn

    def eof_received(self) -> None:
        """The client sends no more: what is answered already goes out before the event loop closes."""
        self.write_now()

    def data_received(self, data: bytes) -> None:
        """Read on; refuse what cannot be trusted."""
        if self._refused is not None:
            return
        if self._unsent:
            self.write_now()
        self._rests_since = None
        self._heard_at = now = self.loop.time()
        is_new = not (self._in_body or self._head_bytes) and (
            self.cycle is None or self.cycle.response_complete
        )
        if is_new and self._is_familiar(data):
            return
        self._read_bytes = len(data)
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_since is None:
                self._head_since = now
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refused) else malformed())
        else:
            if not self._in_body and self._head_bytes > self._limits.max_head_bytes:
                self._refuse(head_too_large())
        if self._unserved is not None:
            if is_new:
                self._learn(data, self._unserved)
            self._serve(self._unserved)

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
        refused = judged(self.parser, self.url, self.headers, self._limits, at_most)
        if refused is not None:
            raise refused
        self._head_since, self._head_bytes, self._in_body = None, 0, True
        answering = self.cycle
        self.cycle = cycle = Cycle(
            self,
            self.parser.get_method(),
            self.url,
            self.headers,
            keep_alive=self.parser.should_keep_alive(),
            expects_continue=dict(self.headers).get(b"expect", b"").lower() == b"100-continue",
        )
        if answering is None or answering.response_complete:
            self._running, self._gone, self._unserved = cycle, None, cycle
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Hold a part of the body until it is asked for; one that comes after its answer is dropped."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            held = cycle.body
            if not held:
                cycle.body = body  # most often it is all there is, and is not copied
            elif isinstance(held, bytearray):
                held += body
            else:
                cycle.body = bytearray(held) + body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.stir()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_body = False
        # A body that comes after its answer has used up the server's patience for the next request.
        cycle = self.cycle
        assert cycle is not None, "its head came before it"
        self._head_since = self.loop.time() if cycle.response_complete else None
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.stir()
            if cycle is self._running:
                # The guarantee: who leaves is noticed, also where a long last part had stopped the reading.
                self.flow.resume_reading()

    # And this by the server and the answer under way.

    def on_response_complete(self) -> None:
        """Go on with the next request; the rest of this one's body is not waited for without end."""
        now = self.loop.time()
        if self._in_body:
            self._head_since = now
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            # Not at once: what ends its predecessor is under way still.
            self.serve_in_task(cast("Cycle", self.pipeline.pop()[0]))
        else:
            self._rests_since = now  # looked at now and then: a timer for each request would cost more

    def serve_in_task(self, cycle: Cycle) -> None:
        """Have a request answered by the application."""
        self._running, self._gone = cycle, None
        cycle.expect_messages(self._scope(cycle))
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _is_familiar(self, data: bytes) -> bool:
        """Serve a request whose head is the one before it; False: it is to be read."""
        known = self._known
        body = known.head.body_after(data) if known is not None else None
        if known is None or body is None:
            return False
        self._head_since = None
        self.cycle = self._running = cycle = known.asked_again(self, body)
        self._gone = None
        self._serve(cycle)
        return True

    def _learn(self, data: bytes, cycle: Cycle) -> None:
        """Remember the head of a request that came as a whole, by itself."""
        end = data.find(b"\r\n\r\n") + 4
        head = FamiliarHead.of(data[:end])
        usual = cycle.keep_alive and not (cycle.more_body or cycle.waiting_for_100_continue or self._in_body)
        if head is not None and usual and head.body_after(data) == cycle.body:
            cycle.known = self._known = KnownRequest(head, cycle)

    def _serve(self, cycle: Cycle) -> None:
        self._unserved = None
        if not (cycle.disconnected or self._at_once(cycle)):
            self.serve_in_task(cycle)

    def _scope(self, cycle: Cycle) -> dict[str, Any]:
        path, _, query = cycle.target.partition(b"?")
        text = path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "method": cycle.method.decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": cycle.headers,
            "server": self.server,
            "client": self.client,
            "state": self.app_state.copy(),
            "extensions": {EXTENSION: cycle},
        }

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
            self.write_now()
            self.transport.close()
            return
        else:
            late = self._head_since is not None and now - self._head_since > limits.head_s
        if late:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(self._check_s, self._check_times)

    def _refuse(self, refused: Refused) -> None:
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
            running.stir()
            if gone is not None:
                gone()


def _in_a_task(_cycle: Cycle) -> bool:
    return False


def client_connections(limits: ClientLimits) -> Callable[..., ClientConnection]:
    """Return what uvicorn takes for its `http` option."""
    return functools.partial(ClientConnection, limits, Outgoing())
