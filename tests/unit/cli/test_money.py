"""`tokentide budgets`, `plans` and `compare`: as tables that can be read in 80 columns, and as JSON."""

from __future__ import annotations

import json
from typing import Any

from infra.query_stub import QueryStub

from .conftest import Run

BUDGET: dict[str, Any] = {
    "budget_id": "budget_1", "name": "all [of us]", "scope": "team", "scope_value": "shop",
    "period": "monthly", "unit": "usd", "amount": "1000",
}  # fmt: skip
PROGRESS: dict[str, Any] = {
    "amount": "1000", "used": "950.5", "left": "49.5", "share": 0.9505, "runs_out_on": "2026-11-24",
    "stopped": False,
}  # fmt: skip
PLAN = {
    "plan_id": "plan_1", "user": "ann@acme.example", "provider": "anthropic", "plan": "max5x",
    "monthly_usd": "100", "valid_from": "2026-10-17", "valid_until": None,
}  # fmt: skip
SPAN = {"from": "2026-11-16T00:00:00+01:00", "to": "2026-11-23T00:00:00+01:00"}


def side(usd: str) -> dict[str, Any]:
    return {"cost_usd": usd, "calls": 1, "total_tokens": 1}


def judged(now: str, then: str, difference: str, ratio: float | None) -> dict[str, Any]:
    return {"current": side(now), "against": side(then), "difference": difference, "ratio": ratio}


COMPARED: dict[str, Any] = {
    **SPAN, "tz": "Europe/Berlin", "against": SPAN, "by": ["model"], "metric": "cost",
    "rows": [{"key": {"model": "opus"}, "change": "shrunk", **judged("0.5", "3", "-2.5", 0.1667)}],
    "other": {"groups": 4, **judged("1", "0", "1", None)}, "total": judged("1.5", "3", "-1.5", 0.5),
}  # fmt: skip


def lines(out: str) -> list[str]:
    assert all(len(line) <= 80 for line in out.splitlines()), out
    return [" ".join(line.split()) for line in out.splitlines()]


def test_budgets_show_what_is_used_and_when_they_run_out(query_stub: QueryStub, tokentide: Run) -> None:
    query_stub.answers = {"budgets": {"items": [BUDGET], "next_cursor": None}, "progress": PROGRESS}
    shown = lines(tokentide("budgets").out)
    assert "all [of us] team shop monthly $1,000.00 $950.50 $49.50 95% 2026-11-24" in shown
    assert json.loads(tokentide("budgets", "--json").out) == [{**BUDGET, "progress": PROGRESS}]
    query_stub.answers["budgets"] = {"items": [], "next_cursor": None}
    assert "no budget" in tokentide("budgets").err


def test_plans_show_who_pays_what(query_stub: QueryStub, tokentide: Run) -> None:
    query_stub.answers = {"plans": {"items": [PLAN], "next_cursor": None}}
    assert "ann@acme.example anthropic max5x 2026-10-17 $100.00" in lines(tokentide("plans").out)
    assert json.loads(tokentide("plans", "--json").out) == [PLAN]


def test_a_comparison_shows_both_periods_and_what_became_of_each_group(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"compare": COMPARED}
    shown = lines(tokentide("compare", "week", "--against", "year", "--tz", "Europe/Berlin").out)
    assert query_stub.asked[-1][1] == {
        "from": ["week"], "tz": ["Europe/Berlin"], "against": ["year"], "by": ["model"], "metric": ["cost"],
        "limit": ["20"],
    }  # fmt: skip
    assert {"opus shrunk $0.5000 $3.00 -$2.50 0.17", "4 others $1.00 $0.00 $1.00"} <= set(shown)
    assert "all $1.50 $3.00 -$1.50 0.50" in shown
    assert json.loads(tokentide("compare", "--json").out) == COMPARED
