"""`tokentide coverage`: who saw the calls, what lacks, and why, as tables and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.query_stub import QueryStub
from tokentide.coverage_tables import hints, statement
from tokentide.failures import Exit

from .conftest import Run

SEEN: dict[str, Any] = {
    "calls": 1234,
    "seen_by": {"cli": 1000, "otlp": 234, "proxy": 0, "api": 0},
    "calls_log_lacks": 234,
    "calls_telemetry_lacks": 1000,
}
COMPARISON: dict[str, Any] = {
    "against": "log",
    "likely_reason": "log_lacks_calls",
    "input_tokens": {"calls": 61, "client": 96, "difference": 35},
    "cache_read_tokens": {"calls": 0, "client": 12000, "difference": 12000},
    "cache_write_tokens": {"calls": 0, "client": 0, "difference": 0},
    "output_tokens": {"calls": 9, "client": None, "difference": None},
}
SESSION = {
    "session_id": "7f3a-[b]",
    **SEEN,
    "possible_doubles": [{"model": "m", "output_tokens": 7, "call_ids": ["a", "b"]}],
    "stopped_emitting": {"since": "2026-11-20T12:10:00.000+00:00", "calls": 5},
    "reconciliation": [{"against": "metrics", "likely_reason": "equal"}, COMPARISON],
}
EMPTY = {**SEEN, "calls": 0, "seen_by": {}, "calls_log_lacks": 0, "calls_telemetry_lacks": 0}


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    query_stub.answers = {
        "coverage": {"items": [SESSION], "next_cursor": None},
        "days": {
            "days": [
                {"start": "2026-11-20T00:00:00+01:00", **SEEN, "metrics_only_sessions": 0},
                {"start": "2026-11-21T00:00:00+01:00", **EMPTY, "metrics_only_sessions": 3},
                {"start": "2026-11-22T00:00:00+01:00", **EMPTY, "metrics_only_sessions": 0},
            ],
            "total": SEEN,
        },
    }
    return query_stub


def test_a_session_says_who_saw_it_what_lacks_and_why(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("coverage", "week", "--tz", "Europe/Berlin")
    assert ended.code == 0
    assert stub.asked == [("coverage", {"from": ["week"], "tz": ["Europe/Berlin"], "limit": ["50"]})]
    for text in (
        "7f3a-[b]",
        "1,234",
        "1,000",
        "metrics: equal",
        "log: log lacks calls (+12,035 tokens)",
        "no telemetry since 2026-11-20 12:10 UTC, 5 calls ago",
        "2 calls may be doubles",
    ):
        assert text in ended.out, text
    assert ended.err == ""


def test_days_without_anything_are_left_out_and_the_total_is_below(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("coverage", "2026-11-20..2026-11-22", "--by", "day")
    assert ended.code == 0
    assert stub.asked[0][0] == "days"
    assert (stub.asked[0][1]["from"], stub.asked[0][1]["to"]) == (["2026-11-20"], ["2026-11-22"])
    assert "3 sessions" in ended.out
    assert "total" in ended.out
    assert ["2026-11-20" in ended.out, "2026-11-21" in ended.out] == [True, True]
    assert "│ 2026-11-22" not in ended.out


@pytest.mark.parametrize(("by", "name"), [("session", "coverage"), ("day", "days")])
def test_json_is_what_the_server_said(stub: QueryStub, tokentide: Run, by: str, name: str) -> None:
    ended = tokentide("coverage", "--by", by, "--json")
    assert json.loads(ended.out) == stub.answers[name]
    assert ended.out.count("\n") == 1


def test_more_sessions_than_shown_are_said(stub: QueryStub, tokentide: Run) -> None:
    stub.answers["coverage"]["next_cursor"] = "more"
    ended = tokentide("coverage", "--limit", "1")
    assert stub.asked[0][1]["limit"] == ["1"]
    assert "--limit" in ended.err


def test_nothing_is_an_empty_table(stub: QueryStub, tokentide: Run) -> None:
    stub.answers["coverage"] = {"items": [], "next_cursor": None}
    ended = tokentide("coverage")
    assert (ended.code, "session" in ended.out) == (0, True)


@pytest.mark.parametrize(
    ("status", "code"), [(400, Exit.USAGE), (401, Exit.FAILED), (503, Exit.TRY_LATER), (404, Exit.FAILED)]
)
def test_a_refusal_has_its_exit_code(stub: QueryStub, tokentide: Run, status: int, code: Exit) -> None:
    stub.problem = (status, {"detail": "not today", "code": "some_code"})
    ended = tokentide("coverage")
    assert (ended.code, ended.out) == (code, "")
    assert "not today" in ended.err


@pytest.mark.parametrize("mistake", [("--by", "colour"), ("--limit", "0"), ("--limit", "501")])
def test_a_wrong_flag_is_a_usage_mistake(stub: QueryStub, tokentide: Run, mistake: tuple[str, str]) -> None:
    assert tokentide("coverage", *mistake).code == Exit.USAGE
    assert stub.asked == []


def test_a_comparison_without_a_difference_is_its_reason() -> None:
    assert statement({"against": "metrics", "likely_reason": "price_differs"}) == "metrics: price differs"
    less = {"input_tokens": {"difference": -5}, "likely_reason": "client_stopped_counting", "against": "log"}
    assert statement(less) == "log: client stopped counting (-5 tokens)"


def test_a_session_without_news_has_none() -> None:
    assert hints({"stopped_emitting": None, "possible_doubles": []}) == []
