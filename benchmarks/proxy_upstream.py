"""A provider that answers at once, for measuring proxies: JSON, or events that say when they were sent.

A request whose body asks for a stream gets `EVENTS` events, `SPACING_S` apart, each in a chunk and, but for
the first and the last ones, with the time by `time.monotonic_ns`; any other gets a message with its usage.
Every answer has ids of its own, and the same usage. Prints its port.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from typing import Final

EVENTS: Final = 30
SPACING_S: Final = 0.02
USAGE: Final = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 15_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 120,
    "service_tier": "standard",
}
_ID: Final = "@0000000000000000000@"
_TEXT: Final = "twenty-four characters.. "
_HEAD: Final = (
    "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nrequest-id: req_011C" + _ID + "\r\nserver: bench\r\n"
    "anthropic-organization-id: 0f6a1e0c-7e9f-4b7a-9d5e-000000000000\r\ncf-ray: 8f0000000000-FRA\r\n"
)


def _message(text: str, stop_reason: str | None, output_tokens: int) -> dict[str, object]:
    return {
        "model": "claude-sonnet-4-5-20250929",
        "id": "msg_01" + _ID,
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": output_tokens},
    }


def _document() -> bytes:
    body = json.dumps(_message(_TEXT * 18, "end_turn", 120), separators=(",", ":"))
    return (_HEAD.format("application/json") + f"content-length: {len(body)}\r\n\r\n{body}").encode()


def _event(kind: str, **said: object) -> bytes:
    data = json.dumps({"type": kind, **said}, separators=(",", ":"))
    event = f"event: {kind}\ndata: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _events() -> list[bytes]:
    delta = {"type": "text_delta", "text": _TEXT + "@" * 19}
    stamped = _event("content_block_delta", index=0, delta=delta)
    known = {name: USAGE[name] for name in ("input_tokens", "cache_read_input_tokens", "output_tokens")}
    return [
        _event("message_start", message=_message("", None, 1)),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[stamped] * (EVENTS - 5),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=known),
        _event("message_stop"),
    ]


_DOCUMENT: Final = _document()
_EVENTS: Final = _events()
_STREAM_HEAD: Final = (
    _HEAD.format("text/event-stream; charset=utf-8")
    + "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
).encode()
_STAMP: Final = b"@" * 19
_ids: Final = itertools.count(10**18)


class Provider(asyncio.Protocol):
    """One connection; requests come one after the other and have a length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own
        self._held = b""

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        held = self._held = self._held + data if self._held else data
        head_end = held.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = held[:head_end].lower()
        at = head.find(b"\r\ncontent-length:")
        length = 0 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(held) < head_end + 4 + length:
            return
        self._held = b""
        own = b"@%019d@" % next(_ids)
        if b'"stream":true' in held or b'"stream": true' in held:
            loop = asyncio.get_running_loop()
            self._transport.write(_STREAM_HEAD.replace(_ID.encode(), own))
            self._send(loop, loop.time(), 0, own)
        else:
            self._transport.write(_DOCUMENT.replace(_ID.encode(), own))

    def _send(self, loop: asyncio.AbstractEventLoop, began: float, number: int, own: bytes) -> None:
        if self._transport.is_closing():
            return
        event = _EVENTS[number]
        if number == 0:
            event = event.replace(_ID.encode(), own)
        self._transport.write(event.replace(_STAMP, b"%019d" % time.monotonic_ns()))
        if number + 1 < len(_EVENTS):
            loop.call_at(began + (number + 1) * SPACING_S, self._send, loop, began, number + 1, own)
        else:
            self._transport.write(b"0\r\n\r\n")


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    import uvloop

    uvloop.run(main())
