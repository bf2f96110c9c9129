"""Usage in answers of the OpenAI APIs: disjoint buckets, from every shape they come in."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.observing import told
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.reader import reader_for

EVENTS = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 25},
}
CHAT = {"input_tokens": 30, "cache_read_tokens": 60, "cache_write_tokens": 10, "output_tokens": 40}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-x", "service_tier": "flex"}
    return {**head, "choices": [choice], "usage": None, **more}


def streamed(*events: Any, path: str = "/v1/chat/completions", end: bool = True) -> Observed:
    reader = reader_for("openai", path, 200, EVENTS)
    assert reader is not None
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))
        reader.feed(f"data: {data}\n\n".encode())
    if end:
        reader.end()
    return reader.observed


def whole(document: Any, path: str = "/v1/chat/completions", status: int = 200) -> Observed:
    reader = reader_for("openai", path, status, JSON)
    assert reader is not None
    reader.feed(json.dumps(document).encode())
    reader.end()
    return reader.observed


def tokens(observed: Observed) -> dict[str, int]:
    return {name: getattr(observed, name) for name in CHAT}


def test_a_chat_stream_with_its_usage_chunk_tells_everything() -> None:
    observed = streamed(
        chunk("a"), chunk("b"), chunk(None, "stop"), chunk(choices=[], usage=CHAT_USAGE), "[DONE]"
    )
    assert told(observed) == dict(
        **CHAT,
        model="gpt-x",
        response_id="chatcmpl-1",
        reasoning_tokens=25,
        stop_reason="stop",
        service_tier="flex",
        has_usage=True,
        finished=True,
    )


def test_a_chat_stream_without_usage_is_known_by_its_id_and_finished() -> None:
    observed = streamed(chunk("a"), chunk(None, "length"), "[DONE]")
    assert (observed.response_id, observed.model, observed.stop_reason) == ("chatcmpl-1", "gpt-x", "length")
    assert observed.finished
    assert not observed.has_usage


def test_a_chat_stream_that_breaks_off_is_not_finished() -> None:
    observed = streamed(chunk("a"), chunk("b"), end=False)
    assert observed.response_id == "chatcmpl-1"
    assert not observed.finished


def test_an_id_that_comes_late_is_found() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]}
    assert streamed(first, chunk("a"), chunk(None, "stop"), "[DONE]").response_id == "chatcmpl-1"


def test_a_complete_body_without_done_is_finished_by_its_finish_reason() -> None:
    assert streamed(chunk("a"), chunk(None, "stop")).finished
    assert not streamed(chunk("a"), chunk("b")).finished


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "Canary", "type": "server_error", "code": None}},
        {"type": "error", "code": "server_error"},
    ],
)
def test_an_error_within_a_stream_is_told(error: dict[str, Any]) -> None:
    observed = streamed(chunk("a"), error)
    assert observed.error_type == "server_error"
    assert not observed.finished


def test_a_whole_completion_tells_everything() -> None:
    message = {"role": "assistant", "content": '"usage":{"prompt_tokens":1}'}
    choices = [{"message": message, "finish_reason": "tool_calls"}]
    observed = whole({"id": "chatcmpl-2", "model": "gpt-x", "choices": choices, "usage": CHAT_USAGE})
    assert tokens(observed) == CHAT
    assert (observed.stop_reason, observed.finished) == ("tool_calls", True)


def test_embeddings_count_their_input() -> None:
    data = [{"embedding": [0.1] * 60_000}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    observed = whole({"data": data, "model": "text-embedding-x", "usage": usage}, path="/v1/embeddings")
    assert (observed.model, observed.input_tokens, observed.output_tokens) == ("text-embedding-x", 8, 0)


def response(status: str, **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 25},
    }
    head = {"id": "resp_1", "model": "gpt-x", "status": status, "error": None, "incomplete_details": None}
    return {**head, "usage": usage, **more}


@pytest.mark.parametrize(
    ("kind", "more", "stop_reason", "error_type"),
    [
        ("completed", {}, "completed", ""),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "max_output_tokens", ""),
        ("failed", {"error": {"code": "server_error", "message": "Canary"}}, "", "server_error"),
    ],
)
def test_the_last_event_of_a_response_tells_how_it_ended(
    kind: str, more: dict[str, Any], stop_reason: str, error_type: str
) -> None:
    created = {"type": "response.created", "response": response("in_progress", usage=None)}
    text = {"type": "response.output_text.delta", "delta": 'a "usage":{ b'}
    last = {"type": f"response.{kind}", "response": response(kind, **more)}
    observed = streamed(created, text, last, path="/v1/responses")
    assert tokens(observed) == CHAT
    assert (observed.stop_reason, observed.error_type, observed.finished) == (stop_reason, error_type, True)
    begun = streamed(created, text, path="/v1/responses")
    assert (begun.response_id, begun.finished, begun.has_usage) == ("resp_1", False, False)


def test_the_last_event_of_a_response_may_be_larger_than_what_is_held() -> None:
    output = [{"type": "image_generation_call", "result": "A" * 2_000_000, "usage": {"input_tokens": 9}}]
    used = {"web_search": {"num_requests": 2}}
    last = {"type": "response.completed", "response": response("completed", output=output, tool_usage=used)}
    reader = reader_for("openai", "/v1/responses", 200, EVENTS)
    assert reader is not None
    stream = f"event: response.completed\ndata: {json.dumps(last)}\n\n".encode()
    for at in range(0, len(stream), 65536):
        reader.feed(stream[at : at + 65536])
    assert tokens(reader.observed) == CHAT
    assert (reader.observed.finished, reader.observed.web_search_requests) == (True, 2)


def test_a_whole_response_tells_everything() -> None:
    observed = whole(response("completed"), path="/openai/v1/responses")
    assert tokens(observed) == CHAT
    assert (observed.response_id, observed.stop_reason, observed.finished) == ("resp_1", "completed", True)


@given(st.lists(st.integers(0, 700), max_size=9), st.booleans())
def test_searches_are_those_that_the_response_says_are_billed(cuts: list[int], in_a_stream: bool) -> None:
    call = {
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "open_page", "url": "Canary"},
    }
    used = {"image_gen": {"input_tokens": 0}, "web_search": {"num_requests": 3}}
    said: dict[str, Any] = response("completed", output=[call] * 5, tool_usage=used)
    data = json.dumps(said)
    if in_a_stream:
        data = f"data: {json.dumps({'type': 'response.completed', 'response': said})}\n\n"
    reader = reader_for("openai", "/v1/responses", 200, EVENTS if in_a_stream else JSON)
    assert reader is not None
    for start, end in pairwise([0, *sorted(cuts), len(data)]):
        reader.feed(data.encode()[start:end])
    reader.end()
    assert (reader.observed.web_search_requests, tokens(reader.observed)) == (3, CHAT)


@pytest.mark.parametrize(
    "used", [None, {}, {"web_search": None}, {"web_search": {"num_requests": -1}}, "none"]
)
def test_a_response_that_does_not_say_what_it_searched_has_no_searches_and_all_its_tokens(
    used: object,
) -> None:
    observed = whole(response("completed", tool_usage=used), path="/v1/responses")
    assert (observed.web_search_requests, tokens(observed)) == (0, CHAT)


def test_parts_larger_than_the_whole_leave_no_bucket_negative() -> None:
    details = {"cached_tokens": 500, "cache_write_tokens": 500}
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": details}
    observed = whole({"usage": {**usage, "completion_tokens_details": {"reasoning_tokens": 50}}})
    assert tokens(observed) == {
        "input_tokens": 0,
        "cache_read_tokens": 100,
        "cache_write_tokens": 0,
        "output_tokens": 5,
    }
    assert observed.reasoning_tokens == 5


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, "invalid_request_error"),
        ({"type": None, "code": "model_not_found"}, "model_not_found"),
        ({"type": "Canary!", "code": 429}, "error"),
    ],
)
def test_a_refusal_is_told_by_its_word(error: dict[str, Any], word: str) -> None:
    assert whole({"error": {"message": "Canary", **error}}, status=400).error_type == word


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/responses/resp_1", "/v1/files", "/v1/batches", "/v1/responses/input_tokens"]
)
def test_what_calls_no_model_has_no_reader(path: str) -> None:
    assert reader_for("openai", path, 200, JSON) is None


@pytest.mark.parametrize("path", ["/openai/deployments/x/chat/completions?api-version=1", "/v1/completions/"])
def test_gateways_may_put_the_call_under_a_path_of_their_own(path: str) -> None:
    assert reader_for("openai", path, 200, JSON) is not None


def test_a_redirect_is_no_answer() -> None:
    assert reader_for("openai", "/v1/chat/completions", 307, JSON) is None
