"""What a provider answers, in the words of each API, and what that call used. Pure: one request, one answer.

The same request gets the same answer, ids included, whoever carries it: so results can be compared. In the
text of a request `[[call NAME]]` asks for a call of that tool, if it is offered and no result is there yet;
`[[bad]]` is refused, `[[overloaded]]` is refused every other time, `[[endless]]` is a stream without an end,
and the answer to `[[garbage]]` is no HTTP.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

ANSWER = "Done. CANARY-of-the-answer"
TOOL_INPUT = {"command": "echo CANARY-of-the-tool", "description": "Say it"}
CREATED = 1_795_000_000

Body = dict[str, Any]


class Answer(NamedTuple):
    """An answer, whole and as the pieces of a stream, and the truth about it."""

    call_id: str
    message_id: str
    model: str
    buckets: dict[str, int]
    """Tokens by the names of the query API."""
    headers: dict[str, str]
    whole: Any
    pieces: list[bytes]
    error: Any
    """The body of a refusal in the words of this API."""


class _Seed:
    """Ids and numbers that belong to one request."""

    def __init__(self, path: str, body: Body) -> None:
        # What a proxy may add to a request is not a part of the question.
        asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        self._digest = hashlib.sha256(f"{path}{json.dumps(asked, sort_keys=True)}".encode()).hexdigest()

    def text(self, length: int) -> str:
        return self._digest[:length]

    def number(self, place: int) -> int:
        return 1 + int(self._digest[place * 3 : place * 3 + 3], 16)


def wanted_tool(body: Body, offered: set[str], results: tuple[str, ...]) -> str | None:
    """Return the tool that the text of a request asks to be called."""
    text = json.dumps(body)
    named = re.search(r"\[\[call (\w+)\]\]", text)
    if named is None or named[1] not in offered or any(result in text for result in results):
        return None
    return named[1]


def sse(event: Body, name: str = "") -> bytes:
    """Return one event as it is framed."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


def messages(path: str, body: Body) -> Answer:
    """Anthropic's Messages API: input and cache in `message_start`, the true output in `message_delta`."""
    seed = _Seed(path, body)
    ids = {"request": f"req_{seed.text(24)}", "message": f"msg_{seed.text(22)}"}
    numbers = [seed.number(place) for place in range(5)]
    fields = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    buckets = dict(zip((*fields, "output_tokens"), numbers, strict=True))
    usage = {
        "input_tokens": numbers[0],
        "cache_read_input_tokens": numbers[1],
        "cache_creation_input_tokens": numbers[2] + numbers[3],
        "cache_creation": {
            "ephemeral_5m_input_tokens": numbers[2],
            "ephemeral_1h_input_tokens": numbers[3],
        },
        "output_tokens": numbers[4],
        "service_tier": "standard",
    }
    tool = wanted_tool(body, {one.get("name", "") for one in body.get("tools", [])}, ('"tool_result"',))
    content: list[Body] = [{"type": "text", "text": ANSWER}]
    if tool:
        content = [{"type": "tool_use", "id": f"toolu_{seed.text(22)}", "name": tool, "input": TOOL_INPUT}]
    message = {
        "id": ids["message"], "type": "message", "role": "assistant", "model": body.get("model", ""),
        "content": content, "stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None,
        "usage": usage,
    }  # fmt: skip
    return Answer(
        ids["request"],
        ids["message"],
        message["model"],
        buckets,
        {"request-id": ids["request"], "anthropic-ratelimit-requests-limit": "1000",
         "anthropic-ratelimit-requests-remaining": "999",
         "anthropic-ratelimit-requests-reset": "2026-11-22T10:01:00Z"},
        message,
        [sse(event, event["type"]) for event in _message_events(message)],
        {"type": "error", "error": {"type": "invalid_request_error", "message": "CANARY-of-the-error"}},
    )  # fmt: skip


def _message_events(message: Body) -> Iterator[Body]:
    usage = {**message["usage"], "output_tokens": 1}
    yield {
        "type": "message_start",
        "message": {**message, "content": [], "stop_reason": None, "usage": usage},
    }
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            opened, said = {**block, "text": ""}, block["text"]
            deltas = [{"type": "text_delta", "text": said[at : at + 8]} for at in range(0, len(said), 8)]
        else:
            opened = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    total = {"output_tokens": message["usage"]["output_tokens"]}
    yield {"type": "message_delta", "delta": stop, "usage": total}
    yield {"type": "message_stop"}


def chat(path: str, body: Body) -> Answer:
    """OpenAI's chat completions: usage in a last chunk, for those only who ask for it."""
    seed = _Seed(path, body)
    call_id, model = f"chatcmpl-{seed.text(29)}", body.get("model", "")
    usage, buckets = _openai_usage(seed, "prompt", "completion")
    offered = {one.get("function", {}).get("name", "") for one in body.get("tools", [])}
    tool = wanted_tool(body, offered, ('"tool_call_id"',))
    said: Body = {"role": "assistant", "content": None if tool else ANSWER}
    if tool:
        function = {"name": tool, "arguments": json.dumps(TOOL_INPUT)}
        said["tool_calls"] = [{"id": f"call_{seed.text(24)}", "type": "function", "function": function}]
    finish = "tool_calls" if tool else "stop"
    common = {"id": call_id, "created": CREATED, "model": model}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
    asked = bool((body.get("stream_options") or {}).get("include_usage"))

    def chunk(delta: Body, finish: str | None = None, **other: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        extra = {"usage": None} if asked else {}
        return sse({**common, "object": "chat.completion.chunk", "choices": choices, **extra, **other})

    calls = [{"index": index, **one} for index, one in enumerate(said.get("tool_calls", []))]
    deltas = [{"tool_calls": calls}] if tool else [{"content": ANSWER[:8]}, {"content": ANSWER[8:]}]
    pieces = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish)]
    pieces += [chunk({}, choices=[], usage=usage)] if asked else []
    headers = {"x-request-id": f"req_{seed.text(32)}", "x-ratelimit-remaining-requests": "9999"}
    return Answer(
        call_id, call_id, model, buckets, headers, whole, [*pieces, b"data: [DONE]\n\n"], _openai_error()
    )


def responses(path: str, body: Body) -> Answer:
    """OpenAI's responses: usage in `response.completed`."""
    seed = _Seed(path, body)
    call_id, model = f"resp_{seed.text(48)}", body.get("model", "")
    usage, buckets = _openai_usage(seed, "input", "output")
    tool = wanted_tool(
        body, {one.get("name", "") for one in body.get("tools", [])}, ("function_call_output",)
    )
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    item: Body = {"type": "message", "id": f"msg_{seed.text(40)}", "status": "completed",
                  "role": "assistant", "content": [text]}  # fmt: skip
    if tool:
        item = {"type": "function_call", "id": f"fc_{seed.text(40)}", "call_id": f"call_{seed.text(24)}",
                "name": tool, "arguments": json.dumps(TOOL_INPUT), "status": "completed"}  # fmt: skip
    whole = {
        "id": call_id, "object": "response", "created_at": CREATED, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": model, "output": [item],
        "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip
    pending = {**whole, "status": "in_progress", "output": [], "usage": None}
    at: Body = {"output_index": 0}
    events: list[Body] = [
        {"type": "response.created", "response": pending},
        {
            "type": "response.output_item.added",
            **at,
            "item": {**item, "status": "in_progress", "content": []},
        },
    ]
    if not tool:
        place = {**at, "item_id": item["id"], "content_index": 0}
        events.append({"type": "response.content_part.added", **place, "part": {**text, "text": ""}})
        events.append({"type": "response.output_text.delta", **place, "delta": ANSWER, "logprobs": []})
    events.append({"type": "response.output_item.done", **at, "item": item})
    events.append({"type": "response.completed", "response": whole})
    pieces = [sse({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(events)]
    headers = {"x-request-id": f"req_{seed.text(32)}"}
    return Answer(call_id, call_id, model, buckets, headers, whole, pieces, _openai_error())


def _openai_error() -> Body:
    error = {"message": "CANARY-of-the-error", "type": "invalid_request_error", "param": None, "code": None}
    return {"error": error}


def _openai_usage(seed: _Seed, asked: str, answered: str) -> tuple[Body, dict[str, int]]:
    fresh, cached, thought, told = (seed.number(place) for place in range(4))
    usage = {
        f"{asked}_tokens": fresh + cached,
        f"{asked}_tokens_details": {"cached_tokens": cached},
        f"{answered}_tokens": thought + told,
        f"{answered}_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": fresh + cached + thought + told,
    }
    return usage, {
        "input_tokens": fresh,
        "cache_read_tokens": cached,
        "output_tokens": thought + told,
        "reasoning_tokens": thought,
    }


def gemini(path: str, body: Body) -> Answer:
    """Gemini's generateContent: snapshots of usage, the last one counts; as SSE or as one JSON array."""
    model, _, verb = path.rpartition("/")[2].partition(":")
    seed = _Seed(f"{model}", body)
    call_id = seed.text(22)
    fresh, cached, thought, told = (seed.number(place) for place in range(4))
    declared = [one for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]
    tool = wanted_tool(body, {one["name"] for one in declared}, ("functionResponse",))

    def snapshot(part: Body, candidates: int, finish: str | None) -> Body:
        usage = {
            "promptTokenCount": fresh + cached, "cachedContentTokenCount": cached,
            "candidatesTokenCount": candidates, "thoughtsTokenCount": thought,
            "totalTokenCount": fresh + cached + thought + candidates,
        }  # fmt: skip
        candidate: Body = {"content": {"parts": [part], "role": "model"}, "index": 0}
        ended = {"finishReason": finish} if finish else {}
        named = {"modelVersion": model, "responseId": call_id}
        return {"candidates": [candidate | ended], "usageMetadata": usage, **named}

    part: Body = {"functionCall": {"name": tool, "args": TOOL_INPUT}} if tool else {"text": ANSWER}
    first: Body = part if tool else {"text": ANSWER[:8]}
    last: Body = {"text": ""} if tool else {"text": ANSWER[8:]}
    pieces = [snapshot(first, 1, None), snapshot(last, told, "STOP")]
    buckets = {"input_tokens": fresh, "cache_read_tokens": cached, "output_tokens": thought + told,
               "reasoning_tokens": thought}  # fmt: skip
    error = {"error": {"code": 400, "message": "CANARY-of-the-error", "status": "INVALID_ARGUMENT"}}
    framed = [f"data: {json.dumps(piece)}\r\n\r\n".encode() for piece in pieces]
    if "alt=sse" not in verb:
        framed = [b"[" + json.dumps(pieces[0]).encode(), b",\r\n" + json.dumps(pieces[1]).encode() + b"]"]
    return Answer(call_id, call_id, model, buckets, {}, snapshot(part, told, "STOP"), framed, error)
