"""A provider on loopback: answers Anthropic's Messages API with usage that it keeps account of.

It streams like the real one: input and cache in `message_start`, a placeholder of the output there, the true
output in `message_delta`. The first request of a prompt with `[[bash]]` is answered with a tool call.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Answered(NamedTuple):
    """One request that was answered to its end."""

    request_id: str
    message_id: str
    model: str
    usage: dict[str, Any]


class Upstream:
    """The server and its account; use it as a context."""

    def __init__(self) -> None:
        self.account: list[Answered] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"upstream": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Upstream:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: dict[str, Any]) -> tuple[Answered, list[dict[str, Any]], str]:
        """Return the account of an answer, its content blocks and its stop reason."""
        number = len(self.account) + 1
        usage = {
            "input_tokens": 10 + number,
            "cache_read_input_tokens": 1000 * number,
            "cache_creation_input_tokens": 30 * number,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 10 * number,
                "ephemeral_1h_input_tokens": 20 * number,
            },
            "output_tokens": 100 + number,
            "service_tier": "standard",
        }
        ids = uuid.uuid4().hex
        answered = Answered(f"req_{ids[:24]}", f"msg_{ids[:22]}", request["model"], usage)
        messages = json.dumps(request["messages"])
        offered = {tool["name"] for tool in request.get("tools", [])}
        if "[[bash]]" in messages and "tool_result" not in messages and "Bash" in offered:
            tool = {"command": "echo CANARY-of-the-client", "description": "Say it"}
            block = {"type": "tool_use", "id": f"toolu_{ids[:22]}", "name": "Bash", "input": tool}
            return answered, [block], "tool_use"
        return answered, [{"type": "text", "text": "Done. CANARY-of-the-answer"}], "end_turn"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            self._say(200, {"input_tokens": 1})
            return
        answered, content, stop = self.upstream.answer(request)
        message = {
            "id": answered.message_id, "type": "message", "role": "assistant", "model": answered.model,
            "stop_reason": stop, "stop_sequence": None, "usage": answered.usage, "content": content,
        }  # fmt: skip
        if request.get("stream"):
            self._stream(answered, message)
        else:
            self._say(200, message, answered.request_id)
        self.upstream.account.append(answered)

    def do_GET(self) -> None:
        self._say(404, {"type": "error", "error": {"type": "not_found_error", "message": "not here"}})

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _say(self, status: int, body: dict[str, Any], request_id: str = "req_other") -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.send_header("request-id", request_id)
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, answered: Answered, message: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("request-id", answered.request_id)
        self.send_header("connection", "close")
        self.end_headers()
        for event in _events(answered, message):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.close_connection = True


def _events(answered: Answered, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    started = {**message, "content": [], "stop_reason": None, "usage": {**answered.usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": started}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            opened, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            opened = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    total = {"output_tokens": answered.usage["output_tokens"]}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": total}
    yield {"type": "message_stop"}
