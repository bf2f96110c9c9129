"""A webhook that remembers what it was sent, and refuses it while it is told to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Where it is, what came, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answers = "at once"
        """Or with a `body without end`, or with `headers without end`."""
        self.came: list[tuple[dict[str, str], bytes]] = []


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    """Serve a webhook in a thread."""
    hook, gone = Webhook(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(hook.status)
            self.send_header("location", f"{hook.url}/elsewhere")
            if hook.answers == "at once":
                self.send_header("content-length", "0")
            if hook.answers == "headers without end":
                self.flush_headers()
                self.drip(b"x-more: of the same\r\n")
            self.end_headers()
            if hook.answers == "body without end":
                self.drip(b"more")

        def drip(self, piece: bytes) -> None:
            """Send it again and again until the caller has left."""
            with contextlib.suppress(OSError):
                while not gone.wait(0.02):
                    self.wfile.write(piece)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hook
    finally:
        gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
