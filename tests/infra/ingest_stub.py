"""A small ingest server that keeps the contract of `POST /api/v1/cli/batches`, with faults on request."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import UsageEvent, decode_edge_event
from tokentide_common.session_totals import SessionTotals

KEY = "tt_m_stub"


class Fault(NamedTuple):
    """What goes wrong with one request: an answer without taking anything, or a cut after taking all."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    drop_after_accept: bool = False
    hang_after_accept: bool = False


class IngestStub:
    """Takes batches; `calls` is what it has, one entry a call, as its identity says."""

    def __init__(self) -> None:
        self.calls: dict[str, UsageEvent] = {}
        self.bodies: list[bytes] = []
        self.machines: list[dict[str, str]] = []
        self.batch_sizes: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.faults: deque[Fault | None] = deque()
        self.refuse_models: set[str] = set()
        self.refuse_totals = False
        self.hanging = threading.Event()
        self.release = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = b'{"status": "ok", "version": "stub", "limits": {}}'
                self.send_response(200 if self.path == "/api/v1/cli/health" else 404)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                stub._answer(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> IngestStub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["content-length"]))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.status:
            problem = {"title": "Stub", "status": fault.status, "detail": "as asked", "code": "stub_fault"}
            self._reply(request, fault.status, problem, dict(fault.headers))
            return
        if request.headers["authorization"] != f"Bearer {KEY}":
            self._reply(request, 401, {"detail": "unknown key", "code": "unauthorized"})
            return
        answer = self._take(gzip.decompress(raw), waiting="wait=" in request.headers.get("prefer", ""))
        if fault is not None and fault.hang_after_accept:
            self.hanging.set()
            self.release.wait(60)
        if fault is not None and (fault.drop_after_accept or fault.hang_after_accept):
            request.close_connection = True
            return
        self._reply(request, 200 if answer.get("stored") else 202, answer)

    def _take(self, body: bytes, *, waiting: bool) -> dict[str, Any]:
        self.bodies.append(body)
        parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        self.machines.append(json.loads(bytes(parts["machine"])))
        events = msgspec.json.decode(parts["events"], type=list[msgspec.Raw])
        self.batch_sizes.append(len(events))
        rejected, verdicts = [], []
        for index, raw in enumerate(events):
            try:
                event = self._judge(decode_edge_event(raw))
            except InvalidEvent as error:
                rejected.append({"index": index, "code": error.stable_code, "detail": error.detail})
                continue
            verdicts.append(
                {"index": index, "verdict": "duplicate" if event.call_id in self.calls else "counted"}
            )
            self.calls[event.call_id] = event
        answer: dict[str, Any] = {"batch_id": "b", "accepted": len(verdicts), "rejected": rejected}
        totals = msgspec.json.decode(parts.get("totals", b"[]"), type=list[SessionTotals])
        if self.refuse_totals:
            answer["rejected_totals"] = [
                {"index": index, "code": "invalid_event", "detail": "refused by the stub"}
                for index in range(len(totals))
            ]
        return {**answer, "stored": True, "verdicts": verdicts} if waiting else answer

    def _judge(self, event: UsageEvent) -> UsageEvent:
        if event.model in self.refuse_models:
            raise InvalidEvent("refused by the stub")
        return event

    def _reply(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: object,
        headers: dict[str, str] | None = None,
    ) -> None:
        content = json.dumps(body).encode()
        request.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
