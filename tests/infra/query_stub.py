"""A query API that answers each question with what it was given, and remembers what was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "tt_a_stub"


def days_with(*calls: int) -> dict[str, Any]:
    """Return the answer about partitions for days from 20 November 2026 on that have so many calls."""
    listed = [
        {"start": f"2026-11-{20 + day}T00:00:00+00:00", "calls": n, "fingerprint": f"{n:016X}"}
        for day, n in enumerate(calls)
    ]
    return {"bucket": "day", "partitions": listed}


class QueryStub:
    """Answers by the last word of the path; `asked` is what was asked, `keys` with which authorization.

    What is posted is in `posted`, and takes the first of the answers under its name.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str | None] = []
        self.answers: dict[str, Any] = {}
        self.problem: tuple[int, dict[str, Any]] | None = None
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                target = urlsplit(self.path)
                name = target.path.rpartition("/")[2]
                stub.asked.append((name, parse_qs(target.query)))
                stub.keys.append(self.headers["authorization"])
                status, body = stub.problem or (200, stub.answers[name])
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                name = self.path.rpartition("/")[2]
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.posted.append((name, body))
                content = json.dumps(stub.answers[name].pop(0)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> QueryStub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
