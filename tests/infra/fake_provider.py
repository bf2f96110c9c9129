"""A provider on loopback: it speaks the three APIs, and keeps account of what it has answered to whom.

A request with the header `x-replay` gets a recorded answer instead, byte for byte.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any, NamedTuple

from infra.fake_answers import ANSWER, Answer, chat, gemini, messages, responses
from infra.recorded_exchanges import Exchange

_PACE_S = 0.01
_FRAMED_ANEW = frozenset({"transfer-encoding", "content-length", "connection", "date", "server"})


class Asked(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FakeProvider:
    """The server and its account; use it as a context."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.account: list[Answer] = []
        """Every call that was answered to its end."""
        self.refused: list[Answer] = []
        self.left = threading.Event()
        """A client has gone in the middle of its answer."""
        self.replays: dict[str, Exchange] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def upstreams(self) -> str:
        """The setting that makes the proxy take this for all providers."""
        bases = {"anthropic": "", "openai": "/v1", "gemini": ""}
        return ",".join(f"{name}={name}+private+{self.url}{base}" for name, base in bases.items())

    def __enter__(self) -> FakeProvider:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer | None:
        """Return what is answered; None where there is nothing."""
        path = asked.path.partition("?")[0]
        found: dict[str, Callable[[str, dict[str, Any]], Answer]] = {
            "/v1/messages": messages,
            "/v1/chat/completions": chat,
            "/v1/responses": responses,
        }
        answer = gemini if path.endswith(("enerateContent",)) else found.get(path)
        return answer(asked.path, json.loads(asked.body or b"{}")) if answer else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: FakeProvider
    _overloaded = cycle((True, False))

    def do_POST(self) -> None:
        asked = self._ask()
        if "x-replay" in asked.headers:
            self._replay(self.provider.replays[asked.headers["x-replay"]])
            return
        if asked.path.startswith("/v1/messages/count_tokens"):
            self._say(200, {"input_tokens": 7})
            return
        try:
            answer = self.provider.answer(asked)
        except ValueError:
            self._say(400, {"error": {"message": "CANARY-of-the-error"}})
            return
        if answer is None:
            self._say(404, {"type": "error", "error": {"type": "not_found_error", "message": "not here"}})
            return
        if b"[[garbage]]" in asked.body:
            self.wfile.write(b"CANARY-of-no-http at all\r\n\r\n")
            self.close_connection = True
        elif b"[[bad]]" in asked.body or (b"[[overloaded]]" in asked.body and next(self._overloaded)):
            status = 400 if b"[[bad]]" in asked.body else 529
            # Another attempt is another request to a provider.
            ids = {name: f"{value}e" for name, value in answer.headers.items() if "request-id" in name}
            self._say(status, answer.error, answer.headers | ids | {"retry-after-ms": "1"})
            self.provider.refused.append(answer)
        elif b'"stream":true' in asked.body.replace(b" ", b"") or ":stream" in asked.path:
            endless = b"[[endless]]" in asked.body
            sse = "alt=sse" in asked.path or "stream" not in asked.path
            kind = "text/event-stream; charset=utf-8" if sse else "application/json"
            if self._stream(_repeated(answer.pieces) if endless else answer.pieces, kind, answer.headers):
                self.provider.account.append(answer)
        else:
            self._say(200, answer.whole, answer.headers)
            self.provider.account.append(answer)

    def do_GET(self) -> None:
        asked = self._ask()
        model = {"id": "claude-test", "type": "model", "object": "model", "owned_by": "nobody",
                 "display_name": "Test", "created": 1, "created_at": "2026-01-01T00:00:00Z"}  # fmt: skip
        if asked.path.startswith("/v1/models"):
            page = {"object": "list", "data": [model], "has_more": False, "first_id": None, "last_id": None}
            self._say(200, page)
        else:
            self._say(404, {"type": "error", "error": {"type": "not_found_error", "message": "not here"}})

    def do_HEAD(self) -> None:
        self._ask()
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _ask(self) -> Asked:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, self.path, headers, body)
        self.provider.asked.append(asked)
        return asked

    def _chunk(self) -> bytes:
        piece = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return piece

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, pieces: Iterable[bytes], kind: str, headers: dict[str, str]) -> bool:
        """Send pieces as they come; tell whether the client stayed to the end."""
        self.send_response(200)
        for name, value in {"content-type": kind, **headers, "transfer-encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            self.provider.left.set()
            return False
        return True

    def _replay(self, exchange: Exchange) -> None:
        broke_off = not (exchange.truth() or {}).get("completed", True)
        self.send_response(exchange.status)
        for name, value in exchange.headers:
            if name.decode() not in _FRAMED_ANEW:
                self.send_header(name.decode(), value.decode())
        # More was announced than came: that is how a length tells of an answer that broke off.
        self.send_header("content-length", str(len(exchange.body) + broke_off))
        self.end_headers()
        self.wfile.write(exchange.body)
        self.close_connection = broke_off


def _repeated(pieces: list[bytes]) -> Iterator[bytes]:
    """A stream that begins as it should, and then goes on and on."""
    first = next(at for at, piece in enumerate(pieces) if ANSWER[:8].encode() in piece)
    yield from pieces[:first]
    pause = threading.Event()
    while True:
        yield pieces[first]
        pause.wait(_PACE_S)
