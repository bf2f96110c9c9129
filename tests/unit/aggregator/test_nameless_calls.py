"""Calls that telemetry names by no id are found in the log if exactly one fits, and else left apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra.observations import NOON
from tokentide_aggregator.nameless_calls import pairs
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State, canonical

SECOND = timedelta(seconds=1)
TOKENS = {"input_tokens": 9, "cache_read_tokens": 8668, "output_tokens": 192}


def seen(call_id: str = "x_1", **fields: object) -> State:
    said = {"source": "otlp", "duration_ms": 5000, "cache_write_tokens": 6483, "occurred_at": NOON}
    return state(call_id, **{**said, **fields})


def logged(call_id: str = "req_1", **fields: object) -> State:
    said = {"source": "cli", "cache_write_1h_tokens": 6483, "occurred_at": NOON + 2 * SECOND}
    return state(call_id, **{**said, **fields})


def state(call_id: str, **fields: object) -> State:
    common = {"org_id": "o", "session_id": "s", "client": "claude-code", "model": "m", **TOKENS}
    event = canonical(UsageEvent(call_id=call_id, **{**common, **fields}))  # type: ignore[arg-type]
    return {event.source: event}


def linked(*states: State) -> list[tuple[str, str]]:
    return [(e.call_id, e.same_as) for e in pairs(states)]


def test_the_one_call_of_the_log_with_the_same_tokens_at_the_time_is_the_call():
    assert linked(seen(), logged()) == linked(logged(), seen()) == [("x_1", "req_1")]


@pytest.mark.parametrize(
    "other",
    [
        {"session_id": "t"},
        {"org_id": "p"},
        {"model": "n"},
        {"output_tokens": 6},
        {"input_tokens": 10},
        {"cache_read_tokens": 1},
        {"cache_write_1h_tokens": 1},
        {"client": "opencode"},
        {"client": "an app"},
        {"occurred_at": NOON - 3 * SECOND},
        {"occurred_at": NOON + 11 * SECOND},
    ],
)
def test_a_call_that_differs_in_anything_is_another_one(other):
    assert linked(seen(), logged(**other)) == []


@pytest.mark.parametrize("at", [-2, 0, 5, 10])
def test_a_line_fits_from_just_before_the_call_to_just_after_its_end(at):
    assert linked(seen(), logged(occurred_at=NOON + at * SECOND)) == [("x_1", "req_1")]


BLANK = dict.fromkeys((*TOKENS, "cache_write_tokens"), 0)


def test_a_call_of_no_known_tokens_is_the_one_that_was_answered_meanwhile():
    blank = seen("x_2", **BLANK)
    assert linked(blank, logged()) == [("x_2", "req_1")]
    # The other one is told by its tokens, whichever of the two comes first.
    assert linked(blank, seen(), logged(), logged("req_2", output_tokens=7)) == [
        ("x_1", "req_1"),
        ("x_2", "req_2"),
    ]
    assert linked(seen(), {**logged(), **blank}) == [("x_1", "req_1")]
    for other in ({"model": "n"}, {"session_id": "t"}, {"occurred_at": NOON + 6 * SECOND}):
        assert linked(blank, logged(**other)) == []
    assert linked(blank, logged(), logged("req_2")) == []
    assert linked(seen("x_2", **BLANK, status="error"), logged()) == []
    refused = logged("req_2", **BLANK, cache_write_1h_tokens=0, status="error", source="proxy")
    assert linked(blank, refused) == []
    assert linked(blank, refused, logged()) == [("x_2", "req_1")]


def test_telemetry_of_a_stream_that_broke_is_of_the_request_that_the_proxy_saw_break():
    broken = logged(source="proxy", status="aborted", error_type="upstream_broken")
    assert linked(seen(), {"proxy-aborted": next(iter(broken.values()))}) == [("x_1", "req_1")]


def test_where_several_fit_nothing_is_guessed():
    assert linked(seen(), logged(), logged("req_2")) == []
    assert linked(seen(), seen("x_2"), logged()) == []
    assert linked(seen(), seen("x_2"), logged(), logged("req_2")) == []


def test_calls_with_the_same_tokens_at_other_times_are_told_apart():
    later = {"occurred_at": NOON + 60 * SECOND}
    found = linked(seen(), seen("x_2", **later), logged(), logged("req_2", **later))
    assert found == [("x_1", "req_1"), ("x_2", "req_2")]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5-20250929"),
        ("claude-opus-5[1m]", "claude-opus-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    ],
)
def test_a_cloud_s_name_of_a_model_is_that_model(asked, answered):
    assert linked(seen(model=asked), logged("msg_1", model=answered)) == [("x_1", "msg_1")]
    assert linked(seen(model=asked), logged("msg_1", model="claude-haiku-4-5-20251001")) == []


def test_a_gateway_s_own_id_of_a_request_tells_which_call_of_the_log_it_is():
    """Telemetry has it alone, while the log has the answer's id too, which the call then is counted under."""
    mine, other = {"request_id": "2025-1"}, {"request_id": "2025-2"}
    assert linked(seen("s:2025-1", **mine), logged("msg_1", **mine)) == [("s:2025-1", "msg_1")]
    assert linked(seen("s:2025-1", **mine), logged("msg_2", **other)) == []
    both = seen("s:2025-1", **mine), seen("s:2025-2", **other)
    assert linked(*both, logged("msg_1", **mine), logged("msg_2", **other)) == [
        ("s:2025-1", "msg_1"),
        ("s:2025-2", "msg_2"),
    ]


def test_what_the_proxy_saw_fits_as_the_line_of_the_log_does_with_it_and_without():
    proxied = {"source": "proxy", "occurred_at": NOON}
    assert linked(seen(), logged(**proxied)) == [("x_1", "req_1")]
    assert linked(seen(), {**logged(**proxied), **logged(output_tokens=6)}) == [("x_1", "req_1")]
    assert linked(seen(), logged(**proxied, client="python-sdk")) == []


def test_codex_which_tells_only_when_a_call_ended_is_found_by_what_the_proxy_saw_of_all_of_it():
    ended = seen(client="codex", model="gpt-5", duration_ms=0, occurred_at=NOON + 600 * SECOND)
    proxied = {"source": "proxy", "client": "codex", "model": "gpt-5-2025-08-07", "occurred_at": NOON}
    assert linked(ended, logged("resp_1", **proxied, duration_ms=601_000)) == [("x_1", "resp_1")]
    assert linked(ended, logged("resp_1", **proxied, duration_ms=300_000)) == []
    assert linked(ended, logged("resp_1", **{**proxied, "client": "claude-code"}, duration_ms=601_000)) == []


def test_calls_that_name_their_request_or_were_found_already_are_left_alone():
    assert linked(seen("req_0"), logged()) == []
    assert linked(seen(request_id="req_2"), logged(request_id="req_1")) == []
    assert linked(seen(same_as="req_1"), logged()) == []
    assert linked(seen(), {**logged(), **seen("req_1")}) == []
