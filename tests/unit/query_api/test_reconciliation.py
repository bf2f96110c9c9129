"""Why a session's calls and its client's own totals differ: each reason, from numbers that speak for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.coverage_sessions import client_totals, kinds_of, stopped_emitting
from tokentide_query_api.reconciliation import (
    KINDS,
    REASONS,
    Calls,
    ClientTotals,
    likely_reason,
    reconciliation,
)

PAGE = (Path(__file__).parents[3] / "docs/reference/query-api.md").read_text("utf-8")
HOUR_MS = 3_600_000
USED = {"input": 100, "cache_read": 2000, "cache_write": 30, "output": 40}
COST = 5_000_000


def calls(**fields: Any) -> Calls:
    """Ten calls an hour ago that log and telemetry have both seen."""
    return Calls(**{"calls": 10, "tokens": USED, "cost_nano": COST, "last_ms": 0, **fields})


def client(against: Any = "metrics", cost_nano: int | None = COST, **more: int) -> ClientTotals:
    """What the client says: the same as the calls, and so many tokens more."""
    return ClientTotals(against, {k: n + more.get(k, 0) for k, n in USED.items()}, cost_nano)


def why(ours: Calls, theirs: ClientTotals, *others: ClientTotals, now_ms: int = HOUR_MS) -> str:
    return likely_reason(ours, theirs, [theirs, *others], now_ms)


LOG_ONLY = {"telemetry_lacks": 10}
TELEMETRY_ONLY = {"log_lacks": 10}
MORE = client(input=7, output=3)
LESS = client(input=-7, output=-3)


@pytest.mark.parametrize(
    ("reason", "ours", "theirs"),
    [
        ("equal", calls(), client()),
        ("equal", calls(), client(cost_nano=COST + 900)),
        ("equal", calls(), client(cost_nano=None)),
        ("equal", calls(), ClientTotals("metrics", None, COST)),
        ("unpriced", calls(unpriced_calls=1, cost_nano=0), client()),
        ("unpriced", calls(unpriced_calls=1, unsplit_calls=1, cost_nano=0), client()),
        ("cache_split_unknown", calls(unsplit_calls=1, cost_nano=COST - 5_000), client()),
        ("price_differs", calls(unsplit_calls=1, cost_nano=COST + 5_000), client()),
        ("equal", calls(unsplit_calls=1), client()),
        ("price_differs", calls(), client(cost_nano=COST + 5_000)),
        ("retried_stream", calls(reported_cost_nano=COST), client(input=19, output=16)),
        ("log_lacks_calls", calls(**LOG_ONLY), MORE),
        ("log_output_is_partial", calls(**LOG_ONLY), client(output=3)),
        ("telemetry_lacks_calls", calls(**TELEMETRY_ONLY), MORE),
        ("telemetry_lacks_calls", calls(telemetry_lacks=4), MORE),
        ("client_counts_other_calls", calls(), MORE),
        ("client_counts_other_calls", calls(**LOG_ONLY), ClientTotals("log", MORE.tokens, COST, "parent")),
        ("possible_doubles", calls(possible_doubles=2), LESS),
        ("telemetry_lacks_calls", calls(telemetry_lacks=4), LESS),
        ("client_stopped_counting", calls(telemetry_lacks=4), client("log", input=-7)),
        ("client_stopped_counting", calls(), LESS),
        ("unknown", calls(), client(input=7, output=-3)),
    ],
)
def test_each_reason_is_given_where_the_numbers_speak_for_it(
    reason: str, ours: Calls, theirs: ClientTotals
) -> None:
    assert why(ours, theirs) == reason


@pytest.mark.parametrize("theirs", [MORE, LESS, client(input=7, output=-3)])
def test_a_session_with_a_recent_call_may_have_more_on_the_way(theirs: ClientTotals) -> None:
    assert why(calls(), theirs, now_ms=60_000) == "still_running"


def test_a_recent_session_that_agrees_is_equal_and_a_retry_is_told_at_once() -> None:
    assert why(calls(), client(), now_ms=60_000) == "equal"
    assert why(calls(reported_cost_nano=COST), client(input=7), now_ms=60_000) == "retried_stream"


def test_where_one_statement_agrees_the_other_one_counts_too_much() -> None:
    assert why(calls(**LOG_ONLY), client("log", input=7), client()) == "client_counts_other_calls"
    assert why(calls(**LOG_ONLY), client("log", input=7), client(input=7)) == "log_lacks_calls"
    # A statement without tokens agrees with nothing.
    assert (
        why(calls(**LOG_ONLY), client("log", input=7), ClientTotals("metrics", None, 1)) == "log_lacks_calls"
    )


def test_differences_are_what_the_client_has_more() -> None:
    ours, theirs = calls(reported_cost_nano=4_000_000), client("log", COST + 1_000_000, input=7, output=-1)
    assert reconciliation(ours, theirs, [theirs], HOUR_MS) == {
        "against": "log",
        "input_tokens": {"calls": 100, "client": 107, "difference": 7},
        "cache_read_tokens": {"calls": 2000, "client": 2000, "difference": 0},
        "cache_write_tokens": {"calls": 30, "client": 30, "difference": 0},
        "output_tokens": {"calls": 40, "client": 39, "difference": -1},
        "cost_usd": {"calls": "0.005", "client": "0.006", "difference": "0.001"},
        "reported_cost_usd": {"calls": "0.004", "client": "0.006", "difference": "0.002"},
        "likely_reason": "unknown",
    }


def test_what_the_client_does_not_say_is_no_difference() -> None:
    theirs = ClientTotals("metrics", None, COST)
    found = reconciliation(calls(), theirs, [theirs], HOUR_MS)
    assert found["input_tokens"] == {"calls": 100, "client": None, "difference": None}
    assert found["reported_cost_usd"] == {"calls": None, "client": "0.005", "difference": None}


COUNTS = st.integers(0, 50)
ANY_CALLS = st.builds(
    Calls,
    calls=COUNTS,
    tokens=st.fixed_dictionaries(dict.fromkeys(KINDS, COUNTS)),
    cost_nano=COUNTS,
    reported_cost_nano=COUNTS,
    unpriced_calls=COUNTS,
    unsplit_calls=COUNTS,
    log_lacks=COUNTS,
    telemetry_lacks=COUNTS,
    possible_doubles=COUNTS,
    last_ms=st.integers(0, HOUR_MS),
)
ANY_CLIENT = st.builds(
    ClientTotals,
    st.sampled_from(["metrics", "log"]),
    st.none() | st.dictionaries(st.sampled_from(KINDS), COUNTS),
    st.none() | COUNTS,
)


@given(ANY_CALLS, st.lists(ANY_CLIENT, min_size=1, max_size=2))
def test_there_is_always_one_of_the_reasons_and_equal_means_equal_tokens(
    ours: Calls, said: list[ClientTotals]
) -> None:
    found = reconciliation(ours, said[0], said, HOUR_MS)
    assert found["likely_reason"] in REASONS
    differences = [found[f"{kind}_tokens"]["difference"] for kind in KINDS]
    if found["likely_reason"] == "equal":
        assert not any(differences)


def test_every_reason_is_documented() -> None:
    (section,) = re.findall(r"^## `GET /api/v1/coverage`\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `([a-z_]+)` \| ", section, re.MULTILINE)) >= set(REASONS)


def row(metric: str, value: str, kind: str = "", forked_from: str = "") -> dict[str, str]:
    return {"metric": metric, "kind": kind, "value": value, "forked_from": forked_from}


def test_what_a_client_says_is_put_together_per_statement() -> None:
    said = [
        row("session_tokens", "7", "output", "parent"),
        row("session_cost_usd", "0.25", forked_from="parent"),
        row("client_tokens", "100", "prompt"),
        row("client_tokens", "90", "prompt_cached"),
        row("client_tokens", "1", "input"),
        row("client_tokens", "4", "reasoning"),
    ]
    metrics, log = client_totals(said)
    assert (metrics.against, metrics.cost_nano, metrics.forked_from) == ("metrics", None, "")
    assert metrics.tokens == {"input": 11, "cache_read": 90, "reasoning": 4}
    assert log == ClientTotals("log", {"output": 7}, 250_000_000, "parent")
    assert client_totals([]) == []


def test_kinds_that_include_others_are_taken_apart() -> None:
    assert kinds_of("output", 5) == [("output", 5)]
    assert kinds_of("prompt", 100) + kinds_of("prompt_cached", 90) == [
        ("input", 100),
        ("input", -90),
        ("cache_read", 90),
    ]


@pytest.mark.parametrize(
    ("last_otlp_ms", "silent_calls", "stopped"), [(0, 9, False), (1, 2, False), (1, 3, True), (1, 0, False)]
)
def test_silence_needs_telemetry_before_and_several_calls_after(
    last_otlp_ms: int, silent_calls: int, stopped: bool
) -> None:
    seen = {"last_otlp_ms": last_otlp_ms, "silent_calls": silent_calls, "silent_ms": 1_795_309_811_068}
    expected = {"since": "2026-11-22T01:10:11.068+00:00", "calls": silent_calls}
    assert stopped_emitting(seen) == (expected if stopped else None)
