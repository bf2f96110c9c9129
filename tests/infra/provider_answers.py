"""Answers as providers give them, with usage that a test can look for."""

from __future__ import annotations

import json

ANTHROPIC_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [],
        "usage": {"input_tokens": 11, "cache_read_input_tokens": 7, "output_tokens": 1},
    },
}
ANTHROPIC_DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 42},
}


def event(data: dict[str, object], *, named: bool = True) -> bytes:
    """A server-sent event, named by its type as Anthropic does it."""
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def anthropic_events(*texts: str) -> list[bytes]:
    """A whole stream of Messages."""
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in texts or ("Grüße 🌊",)
    ]
    return [
        event(ANTHROPIC_START),
        event({"type": "ping"}),
        *map(event, deltas),
        event(ANTHROPIC_DELTA),
        event({"type": "message_stop"}),
    ]


def anthropic_message() -> bytes:
    """An answer in one piece."""
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-5",
            "content": [{"type": "text", "text": "hi"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 11, "cache_read_input_tokens": 7, "output_tokens": 42},
        }
    ).encode()


def openai_chunks() -> list[bytes]:
    """A stream of chat completions with its usage at the end, as when it was asked for."""
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5.5"}
    delta = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    return [
        event({**common, "choices": [delta], "usage": None}, named=False),
        event({**common, "choices": [last], "usage": None}, named=False),
        event({**common, "choices": [], "usage": usage}, named=False),
        b"data: [DONE]\n\n",
    ]
