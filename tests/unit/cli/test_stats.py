"""`tokentide stats`: the server's numbers as tables and as JSON, and its refusals in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.query_stub import QueryStub
from tokentide.failures import Exit
from tokentide.periods import local_zone, period_parameters
from tokentide.stats_tables import cost, hit_rate

from .conftest import Run

MEASURES = {
    "calls": 3,
    "input_tokens": 1000,
    "cache_read_tokens": 8000,
    "cache_write_5m_tokens": 400,
    "cache_write_1h_tokens": 600,
    "output_tokens": 77,
    "cost_usd": "1234.5678",
    "unpriced_calls": 0,
}


ANSWERS: dict[str, Any] = {
    "summary": MEASURES,
    "breakdown": {
        "by": ["model"],
        "rows": [{"key": {"model": "claude-[opus]"}, **MEASURES}, {"key": {"model": ""}, **MEASURES}],
        "other": {**MEASURES, "calls": 9},
    },
    "timeseries": {
        "series": [
            {
                "points": [
                    {"start": "2026-11-21T00:00:00+01:00", **MEASURES},
                    {"start": "2026-11-22T00:00:00+01:00", **MEASURES},
                    {"start": "2026-11-23T00:00:00+01:00", **MEASURES, "calls": 0},
                ]
            }
        ]
    },
}


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    query_stub.answers = dict(ANSWERS)
    return query_stub


def test_the_default_is_today_by_model_and_day(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("stats", "--tz", "Asia/Kathmandu")
    assert ended.code == 0
    assert [name for name, _ in stub.asked] == ["summary", "breakdown", "timeseries"]
    assert all((query["from"], query["tz"]) == (["today"], ["Asia/Kathmandu"]) for _, query in stub.asked)
    for text in ("claude-[opus]", "(unknown)", "(other)", "total", "80.0 %", "$1,234.57", "8,000"):
        assert text in ended.out
    assert "2026-11-21" in ended.out
    assert "2026-11-23" not in ended.out, "days without calls are left out"


@pytest.mark.parametrize(
    ("by", "asked"),
    [
        ("model", "model"),
        ("project", "project"),
        ("session", "session_id"),
        ("machine", "machine_id"),
        ("user", "user_id"),
        ("client", "client"),
        ("source", "source"),
    ],
)
def test_by_asks_for_one_breakdown(stub: QueryStub, tokentide: Run, by: str, asked: str) -> None:
    assert tokentide("stats", "month", "--by", by).code == 0
    assert [name for name, _ in stub.asked] == ["summary", "breakdown"]
    assert stub.asked[1][1]["by"] == [asked]


def test_by_day_asks_for_days(stub: QueryStub, tokentide: Run) -> None:
    assert tokentide("stats", "2026-11-01..2026-11-22", "--by", "day").code == 0
    assert [name for name, _ in stub.asked] == ["summary", "timeseries"]
    assert (stub.asked[0][1]["from"], stub.asked[0][1]["to"]) == (["2026-11-01"], ["2026-11-22"])
    assert stub.asked[1][1]["bucket"] == ["day"]


def test_json_is_what_the_server_said(stub: QueryStub, tokentide: Run) -> None:
    ended = tokentide("stats", "week", "--json")
    said = json.loads(ended.out)
    assert said["summary"] == stub.answers["summary"]
    assert said["breakdown"] == stub.answers["breakdown"]
    assert said["days"] == stub.answers["timeseries"]
    assert ended.out.count("\n") == 1


def test_calls_without_a_price_are_marked_and_said(stub: QueryStub, tokentide: Run) -> None:
    stub.answers["summary"] = {**MEASURES, "unpriced_calls": 2}
    ended = tokentide("stats")
    assert "$1,234.57 *" in ended.out
    assert "2 calls have no known price" in ended.err


def test_no_colour_codes_are_written_where_no_colour_is_wanted(stub: QueryStub, tokentide: Run) -> None:
    assert "\x1b[" not in tokentide("stats").out


@pytest.mark.parametrize(
    ("status", "code"), [(400, Exit.USAGE), (401, Exit.FAILED), (503, Exit.TRY_LATER), (404, Exit.FAILED)]
)
def test_a_refusal_is_told_in_the_servers_words(
    stub: QueryStub, tokentide: Run, status: int, code: Exit
) -> None:
    fields = [{"field": "from", "detail": "for example 7d"}]
    stub.problem = (status, {"detail": "not today", "code": "some_code", "errors": fields})
    ended = tokentide("stats", "bogus")
    assert ended.code == code
    assert f"answered {status} (some_code): not today" in ended.err
    assert "from: for example 7d" in ended.err
    assert ended.out == ""


def test_a_server_that_is_away_is_told_as_temporary(stub: QueryStub, tokentide: Run) -> None:
    assert tokentide("stats", "--url", "http://127.0.0.1:9").code == Exit.TRY_LATER


def test_an_unknown_dimension_is_a_usage_mistake(stub: QueryStub, tokentide: Run) -> None:
    assert tokentide("stats", "--by", "colour").code == Exit.USAGE


@pytest.mark.parametrize(
    ("period", "parameters"),
    [
        ("today", {"from": "today"}),
        ("2026-11-01..2026-11-22", {"from": "2026-11-01", "to": "2026-11-22"}),
        ("2026-11-01..", {"from": "2026-11-01"}),
    ],
)
def test_a_period_is_passed_on_in_the_servers_words(period: str, parameters: dict[str, str]) -> None:
    assert period_parameters(period, "") == parameters
    assert period_parameters(period, "UTC") == {**parameters, "tz": "UTC"}


def test_the_time_zone_of_the_machine_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert local_zone() == "Europe/Berlin"


def test_rates_and_amounts_are_readable() -> None:
    assert hit_rate({}) == "–"
    assert hit_rate({"cache_read_tokens": 1, "input_tokens": 2}) == "33.3 %"
    assert [cost({"cost_usd": text}) for text in ("0", "0.00012", "2.005")] == ["$0.00", "$0.0001", "$2.00"]
