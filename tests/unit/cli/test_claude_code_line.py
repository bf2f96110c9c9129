"""One line at a time: what counts as a call, and how its numbers are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.claude_code import UNREADABLE, LogPlace, read_call
from tokentide_common.events import UsageEvent, check_event, decode_edge_event, encode_event

PLACE = LogPlace(datetime(2026, 11, 22, tzinfo=UTC), "tide")
SPLIT = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 50}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def line(usage: dict[str, Any] | None = None, message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    counted = {"input_tokens": 3, "output_tokens": 5, **(usage or {})}
    said = {"id": "msg_1", "model": "claude-opus-5-5", "role": "assistant", "content": [], "usage": counted}
    whole = {
        "type": "assistant",
        "timestamp": "2026-11-22T01:10:12.061Z",
        "sessionId": "s-1",
        "requestId": "req_1",
        "uuid": "u-1",
        "message": {**said, **(message or {})},
    }
    return json.dumps({**whole, **fields}).encode()


def call(*args: Any, **fields: Any) -> UsageEvent:
    event = read_call(line(*args, **fields), PLACE)
    assert event is not None
    return event


@pytest.mark.parametrize(
    "raw",
    [
        line(message={"model": "<synthetic>"}),
        line(isApiErrorMessage=True),
        line(message={"usage": None}),
        line(type="user"),
        b'{"type":"cost-state","modelUsage":{},"usage":{}}'.replace(b"usage", b"stats"),
        b'{"type":"user","timestamp":"2026-11-22T01:10:12Z","message":{"content":"\\"usage\\""}}',
    ],
)
def test_lines_that_report_no_call_are_passed_over(raw: bytes) -> None:
    assert read_call(raw, PLACE) is None


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        ({"cache_creation_input_tokens": 70}, (70, 0, 0)),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 50}},
            (70, 20, 50),
        ),
        (
            {
                "cache_creation_input_tokens": 100,
                "cache_creation": SPLIT,
            },
            (100, 20, 50),
        ),
        ({"cache_creation_input_tokens": None, "cache_creation": None}, (0, 0, 0)),
    ],
)
def test_cache_writes_keep_total_and_split(usage: dict[str, Any], written: tuple[int, int, int]) -> None:
    event = call(usage)
    assert (event.cache_write_tokens, event.cache_write_5m_tokens, event.cache_write_1h_tokens) == written


def test_thinking_is_a_part_of_output_and_searches_are_counted() -> None:
    event = call(
        {
            "output_tokens": 10,
            "output_tokens_details": {"thinking_tokens": 400},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
            "speed": "fast",
            "inference_geo": "us",
        }
    )
    assert (event.output_tokens, event.reasoning_tokens, event.web_search_requests) == (10, 10, 2)
    assert (event.speed, event.inference_geo) == ("fast", "us")


@pytest.mark.parametrize(
    ("version", "stop_reason", "status"),
    [
        ("2.1.330", None, "aborted"),
        ("2.1.330", "end_turn", "ok"),
        ("2.1.97", None, "ok"),
        ("1.0.128", None, "ok"),
        ("next", None, "ok"),
        (3, None, "ok"),
        (None, None, "ok"),
    ],
)
def test_an_answer_without_an_end_was_interrupted_where_the_version_tells_of_ends(
    version: str | int | None, stop_reason: str | None, status: str
) -> None:
    assert call(message={"stop_reason": stop_reason}, version=version).status == status


def test_an_old_logs_own_cost_is_kept_exactly() -> None:
    assert call(costUSD=0.0138985).reported_cost_usd == "0.0138985"
    assert call(costUSD=1e-7).reported_cost_usd == "0.0000001"


def test_ids_of_gateways_are_scoped_by_the_session_that_made_the_call() -> None:
    reused = {"id": "chatcmpl-1"}
    assert call(message=reused, requestId=None).call_id == "s-1:chatcmpl-1"
    copied = call(message=reused, requestId=None, sessionId="fork", requestSessionId="s-1")
    assert copied.call_id == "s-1:chatcmpl-1"


def test_a_line_without_any_id_of_a_provider_is_known_by_its_own() -> None:
    nameless = {"id": None}
    first = call(message=nameless, requestId=None)
    assert first.call_id == call(message=nameless, requestId=None, sessionId="fork").call_id
    assert first.call_id != call(message=nameless, requestId=None, uuid="u-2").call_id
    assert call(message=nameless, requestId=None, uuid=None).call_id.startswith("x_")


def test_a_decoration_of_another_type_does_not_lose_the_call() -> None:
    event = call(effort={"level": "high"}, gitBranch=["main"])
    assert (event.call_id, event.output_tokens, event.effort) == ("req_1", 5, "")


def test_what_is_too_long_for_the_wire_is_cut() -> None:
    event = call(
        message={"model": "m" * 5000, "id": "i" * 5000},
        requestId="q" * 5000,
        gitBranch="b" * 5000,
        effort="e" * 999,
    )
    check_event(decode_edge_event(encode_event(event)), NOW)


@pytest.mark.parametrize(
    "raw",
    [b'{"usage"', b'\xff"usage"', b'["usage"]', line({"input_tokens": -1}), line({"input_tokens": "9"})],
)
def test_damaged_lines_are_told_apart_from_lines_without_a_call(raw: bytes) -> None:
    with pytest.raises(UNREADABLE):
        read_call(raw, PLACE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["timestamp", "sessionId", "requestId", "uuid", "effort", "costUSD", "isSidechain", "agentId"]
USAGE = [
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "cache_creation_input_tokens",
    "speed",
    "server_tool_use",
]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.sampled_from(USAGE), JSON))
def test_whatever_a_field_holds_the_result_is_valid_or_the_line_unreadable(
    fields: dict[str, Any], usage: dict[str, Any]
) -> None:
    try:
        event = read_call(line(usage, **fields), PLACE)
    except UNREADABLE:
        return
    if event is not None:
        decode_edge_event(encode_event(event))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_garbage_never_ends_a_push(garbage: bytes, cut: int) -> None:
    for raw in (garbage, line()[:cut] + garbage, garbage + b'"usage"'):
        try:
            read_call(raw, PLACE)
        except UNREADABLE:
            continue
