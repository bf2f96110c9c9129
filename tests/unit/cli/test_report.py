"""`tokentide report`: the server's named reports as tables, JSON and CSV."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from infra.query_stub import QueryStub
from tokentide.failures import Exit
from tokentide.report_table import report_table

from .conftest import Run

COLUMNS = ["user_id", "calls", "cost_usd", "share", "models", "unpriced_calls"]
ROW: dict[str, Any] = {
    "user_id": "ann [b]",
    "calls": 12345,
    "cost_usd": "1234.567",
    "share": 0.25,
    "models": ["opus", "haiku"],
    "unpriced_calls": 0,
}
ANSWER = {
    "report": "top-users",
    "from": "2026-11-01T00:00:00+01:00",
    "to": "2026-11-22T10:30:00+01:00",
    "tz": "Europe/Berlin",
    "rows": [ROW, {**ROW, "user_id": "bob", "cost_usd": "0.00012", "share": None}],
}
REPORTS = {
    "items": [
        {"name": "top-users", "title": "Who used most", "path": "/x", "columns": COLUMNS},
        {"name": "quota", "title": "People against limits", "path": "/y", "columns": ["user_id"]},
    ]
}


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    query_stub.answers = {"reports": REPORTS, "top-users": ANSWER}
    return query_stub


def test_without_a_name_all_reports_of_the_server_are_listed(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("report")
    assert (ended.code, stub.asked) == (0, [("reports", {})])
    assert all(item["name"] in ended.out and item["title"] in ended.out for item in REPORTS["items"])
    assert json.loads(tokentide("report", "--json").out) == REPORTS


def test_a_report_is_asked_for_with_period_zone_limit_and_filters(stub: QueryStub, tokentide: Run) -> None:
    options = ("--from", "month", "--to", "today", "--tz", "Europe/Berlin", "--limit", "7")
    ended = tokentide("report", "top-users", *options, "--where", "model=a", "--where", "model=b=c")
    assert ended.code == 0
    assert stub.asked[1] == (
        "top-users",
        {"from": ["month"], "to": ["today"], "tz": ["Europe/Berlin"], "limit": ["7"], "model": ["a", "b=c"]},
    )


def test_its_table_shows_what_says_anything(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("report", "top-users")
    for text in ("ann [b]", "12,345", "$1,234.57", "$0.0001", "0.25", "opus, haiku", "Who used most"):
        assert text in ended.out, text
    assert "unpriced" not in ended.out


def test_json_and_csv_are_what_the_server_said(stub: QueryStub, tokentide: Run) -> None:
    assert json.loads(tokentide("report", "top-users", "--json").out) == ANSWER
    assert json.loads(tokentide("report", "top-users", "--csv").out) == ANSWER  # whatever it sends
    assert stub.asked[-1][1]["format"] == ["csv"]


@pytest.mark.parametrize(("name", "hint"), [("topusers", "top-users"), ("zzzz", "lists all")])
def test_an_unknown_name_suggests_the_nearest(stub: QueryStub, tokentide: Run, name: str, hint: str) -> None:
    ended = tokentide("report", name)
    assert (ended.code, ended.out, hint in ended.err) == (Exit.USAGE, "", True)


def test_a_pair_without_a_name_is_a_usage_mistake(stub: QueryStub, tokentide: Run) -> None:
    assert tokentide("report", "top-users", "--where", "=x").code == Exit.USAGE


def test_an_empty_report_says_so(stub: QueryStub, tokentide: Run) -> None:
    stub.answers["top-users"] = {**ANSWER, "rows": []}
    ended = tokentide("report", "top-users")
    assert (ended.code, "no calls" in ended.err) == (0, True)


@pytest.mark.parametrize(
    ("code", "hint"), [("forbidden", "owner or admin"), ("aggregates_only", ""), ("", "in front of it")]
)
def test_a_refusal_hints_at_what_helps_and_never_at_another_kind_of_key(
    stub: QueryStub, tokentide: Run, code: str, hint: str
) -> None:
    stub.problem = (403, {"detail": "not for you", "code": code})
    ended = tokentide("report")
    assert (ended.code, "not for you" in ended.err, "tt_" in ended.err) == (Exit.FAILED, True, False)
    assert hint in ended.err


MEASURES = (
    *("calls", "errors", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "web_search_requests"),
)
LONG = {
    **dict.fromkeys(MEASURES, 48_211_034), "calls": 12_345, "errors": 12, "cost_usd": "1234.56",
    "reported_cost_usd": "1234.56", "user_id": "user_01JXYZABCDEFGHJKMNPQRSTVWX",
    "session_id": "3f0b6c1a-77d2-4e94-a5c0-0123456789ab", "organization": "org_a", "rank": 1,
    "user_email": "ann@acme.example", "duration_s": 3600.5, "first_call_at": "2026-11-22T10:30:00.000+01:00",
    "models": ["claude-opus-5"], "month": "2026-11",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "first", "kept", "left_out"),
    [
        ("top-users", ("rank", "user_id", "user_email", "organization"), "ann@acme.example", "user_01"),
        ("monthly-per-user", ("month", "user_id"), "user_01JXYZA…", "reasoning"),
        ("sessions", ("session_id", "first_call_at", "duration_s", "models"), "3f0b6c1a-77d…", "+01:00"),
    ],
)
def test_a_table_of_many_columns_can_be_read_in_80(
    name: str, first: tuple[str, ...], kept: str, left_out: str
) -> None:
    report = {"name": name, "title": "Title", "columns": [*first, *MEASURES, "cost_usd", "reported_cost_usd"]}
    narrow, wide = Console(width=80), Console(width=400)
    with narrow.capture() as shown:
        narrow.print(report_table(report, {**ANSWER, "rows": [LONG, LONG]}))
    with wide.capture() as everything:
        wide.print(report_table(report, {**ANSWER, "rows": [LONG]}, wide=True))
    assert shown.get().count(kept) == 2, shown.get()
    assert all(text in shown.get() for text in ("$1,234.56", "12,345", "48,211,034")), shown.get()
    assert left_out not in shown.get()
    assert all(str(LONG[column]) in everything.get() for column in first if column.endswith(("_id", "_at")))
    assert "reasoning tokens" in everything.get()
