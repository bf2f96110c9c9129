"""The Messages API's rules of usage, beyond what the captures show."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from infra.observing import told
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.reader import reader_for

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
START_USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 5000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 4,
    "service_tier": "standard",
    "inference_geo": "us",
}
STOP = {"type": "message_stop"}


def start(**usage: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "model": "claude-x-1", "stop_reason": None, "usage": {**START_USAGE, **usage}}
    return {"type": "message_start", "message": message}


def delta(stop_reason: str | None = None, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def streamed(*events: dict[str, Any], end: bool = True) -> Observed:
    reader = reader_for("anthropic", "/v1/messages", 200, EVENTS)
    assert reader is not None
    for event in events:
        reader.feed(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    if end:
        reader.end()
    return reader.observed


def whole(document: Any, status: int = 200) -> Observed:
    reader = reader_for("anthropic", "/v1/messages?beta=true", status, JSON)
    assert reader is not None
    reader.feed(document if isinstance(document, bytes) else json.dumps(document).encode())
    reader.end()
    return reader.observed


def test_of_several_cumulative_deltas_the_last_value_stands_field_by_field() -> None:
    observed = streamed(
        start(),
        delta(output_tokens=50, input_tokens=12),
        delta(output_tokens=80, cache_read_input_tokens=6000),
        delta("end_turn", output_tokens=90, server_tool_use={"web_search_requests": 3}),
        STOP,
    )
    assert told(observed) == {
        "model": "claude-x-1",
        "response_id": "msg_1",
        "input_tokens": 12,
        "cache_read_tokens": 6000,
        "cache_write_tokens": 300,
        "cache_write_5m_tokens": 100,
        "cache_write_1h_tokens": 200,
        "output_tokens": 90,
        "web_search_requests": 3,
        "stop_reason": "end_turn",
        "service_tier": "standard",
        "inference_geo": "us",
        "has_usage": True,
        "finished": True,
    }


def test_cache_writes_beyond_the_split_of_the_start_are_kept_in_the_total() -> None:
    observed = streamed(start(), delta("end_turn", output_tokens=9, cache_creation_input_tokens=1000), STOP)
    assert observed.cache_write_tokens == 1000
    assert (observed.cache_write_5m_tokens, observed.cache_write_1h_tokens) == (100, 200)


def test_a_zero_that_stands_for_unknown_does_not_beat_what_is_known() -> None:
    observed = streamed(
        start(), delta("end_turn", output_tokens=9, input_tokens=0, cache_read_input_tokens=None)
    )
    assert (observed.input_tokens, observed.cache_read_tokens) == (10, 5000)


def test_an_output_of_nothing_replaces_the_placeholder_of_the_start() -> None:
    assert streamed(start(), delta("refusal", output_tokens=0), STOP).output_tokens == 0


@pytest.mark.parametrize("events", [[start()], [start(), delta("end_turn", output_tokens=9)]])
def test_a_stream_without_its_last_event_is_not_finished(events: list[dict[str, Any]]) -> None:
    observed = streamed(*events)
    assert observed.has_usage
    assert not observed.finished


def test_an_error_within_a_stream_is_told_by_its_word() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "usage of a Canary"}}
    observed = streamed(start(), error, end=False)
    assert observed.error_type == "overloaded_error"
    assert observed.has_usage
    assert not observed.finished


def test_of_iterations_only_compaction_comes_on_top() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, "cache_read_input_tokens": 7},
        {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
        {"type": "advisor_message", "model": "other", "input_tokens": 50, "output_tokens": 60},
    ]
    usage = {"input_tokens": 23000, "output_tokens": 1000, "iterations": iterations}
    once = whole({"id": "msg_1", "model": "m", "stop_reason": "end_turn", "usage": usage})
    # Cumulative as everything else: told twice, it is counted once.
    twice = streamed(
        start(cache_creation=None, cache_creation_input_tokens=0, cache_read_input_tokens=0),
        delta(**usage),
        delta("end_turn", **usage),
        STOP,
    )
    for observed in (once, twice):
        assert (observed.input_tokens, observed.output_tokens) == (203000, 4500)
        assert observed.cache_read_tokens == 7


def test_iterations_of_messages_alone_change_nothing() -> None:
    message = {"type": "message", "input_tokens": 5, "output_tokens": 6}
    observed = whole(
        {"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 6, "iterations": [message]}}
    )
    assert (observed.input_tokens, observed.output_tokens) == (5, 6)


def test_a_whole_message_tells_everything() -> None:
    usage = {
        **START_USAGE,
        "output_tokens": 70,
        "output_tokens_details": {"thinking_tokens": 30},
        "speed": "fast",
    }
    content = [{"type": "tool_use", "input": {"usage": {"input_tokens": 999}, "id": "forged"}}]
    observed = whole(
        {"id": "msg_9", "type": "message", "model": "claude-x-1", "content": content, "usage": usage}
        | {"stop_reason": "tool_use"}
    )
    assert told(observed) == {
        "model": "claude-x-1",
        "response_id": "msg_9",
        "input_tokens": 10,
        "cache_read_tokens": 5000,
        "cache_write_tokens": 300,
        "cache_write_5m_tokens": 100,
        "cache_write_1h_tokens": 200,
        "output_tokens": 70,
        "reasoning_tokens": 30,
        "stop_reason": "tool_use",
        "service_tier": "standard",
        "speed": "fast",
        "inference_geo": "us",
        "has_usage": True,
        "finished": True,
    }


def test_a_message_too_large_to_hold_is_read_all_the_same() -> None:
    content = [{"type": "text", "text": 'said "usage": {"input_tokens": 9} \\' * 30_000}]
    document = {
        "id": "msg_9",
        "model": "m",
        "content": content,
        "stop_reason": "end_turn",
        "usage": START_USAGE,
    }
    assert len(json.dumps(document)) > 2**20
    observed = whole(document)
    assert (observed.response_id, observed.input_tokens, observed.stop_reason) == ("msg_9", 10, "end_turn")
    assert observed.finished


def test_a_body_cut_short_is_not_finished() -> None:
    document = json.dumps({"id": "msg_9", "usage": START_USAGE}).encode()
    assert not whole(document[:-1]).finished


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "Canary"}}, "rate_limit_error"),
        ({"type": "error", "error": {"type": "Canary, a sentence", "message": "Canary"}}, "error"),
        (b"<html>Canary</html>", ""),
        (b"", ""),
    ],
)
def test_a_refusal_is_known_by_a_closed_word_or_not_at_all(body: Any, word: str) -> None:
    observed = whole(body, status=429)
    assert observed.error_type == word
    assert not observed.has_usage


def test_a_refusal_in_gzip_is_read_too() -> None:
    reader = reader_for("anthropic", "/v1/messages", 529, [(b"content-encoding", b"gzip"), *EVENTS])
    assert reader is not None
    reader.feed(gzip.compress(b'{"type":"error","error":{"type":"overloaded_error"}}'))
    reader.end()
    assert reader.observed.error_type == "overloaded_error"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/count_tokens",
        "/v1/messages/batches",
        "/v1/messages/batches/msgbatch_1/results",
        "/v1/models?limit=1000",
        "/v1/files",
        "/api/hello",
        "/",
    ],
)
def test_what_calls_no_model_has_no_reader(path: str) -> None:
    assert reader_for("anthropic", path, 200, JSON) is None


def test_counts_stay_within_what_an_event_can_hold() -> None:
    observed = whole({"id": "m", "usage": {"input_tokens": -5, "output_tokens": 10**30}})
    assert (observed.input_tokens, observed.output_tokens) == (0, 2**31)
