"""What a budget's part of an organisation used, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec

from tokentide_common.store import Store, rows
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.money.budget_spans import runs_out
from tokentide_query_api.money.budget_words import Progress, text_of
from tokentide_query_api.money.daily import daily
from tokentide_query_api.money.trend import Expectation
from tokentide_query_api.periods import Period, midnight
from tokentide_query_api.scope import AnyOf, Condition, Filter, Scope
from tokentide_query_api.statement import Statement
from tokentide_query_api.store_wall import WalledStore
from tokentide_query_api.visibility import whole_organization

_COLUMNS: Final = {"usd": "cost_nano", "tokens": "total_tokens"}
_DIMENSIONS: Final = {"team": "team", "project": "project", "key": "key_id"}
_HISTORY: Final = timedelta(days=28)


class _Reading(msgspec.Struct, frozen=True):
    """Asks the store for an organisation."""

    store: WalledStore

    async def rows(self, statement: Statement, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a finished statement."""
        return await rows(self.store, sql, statement.params)


async def used_by_day(store: Store, budget: Any, span: Period) -> Mapping[date, int]:  # noqa: ANN401 -- a row of the table
    """Return what a budget is about, by local day of a period."""
    sight = whole_organization(budget.org_id)
    scope = Scope(sight, span.start_ms, span.end_ms, conditions(budget.scope, budget.scope_value))
    reading = _Reading(WalledStore(store, [budget.org_id]))
    found = await daily(reading, scope, span, (), _COLUMNS[budget.unit])
    return found.values.get((), {})


def conditions(scope: str, value: str) -> tuple[Condition, ...]:
    """Return which calls a budget is about. Pure."""
    if scope == "organisation":
        return ()
    if scope == "user":
        named = Filter(DIMENSIONS["user_id"], (value,))
        return (AnyOf((named, Filter(DIMENSIONS["user_email"], (value.lower(),), fold=True))),)
    return (Filter(DIMENSIONS[_DIMENSIONS[scope]], (value,)),)


async def progress(store: Store, budget: Any, span: Period, now: datetime, crossed: list[int]) -> Progress:  # noqa: ANN401 -- a row of the table
    """Return how much is used, and where the last four weeks' pace leads."""
    first = midnight((span.start - _HISTORY).astimezone(span.zone).date(), span.zone)
    days = await used_by_day(store, budget, Period(first, span.end, span.zone))
    return _progress(budget, days, span, now, crossed)


def _progress(
    budget: Any,  # noqa: ANN401 -- a row of the table
    days: Mapping[date, int],
    span: Period,
    now: datetime,
    crossed: list[int],
) -> Progress:
    today = now.astimezone(span.zone).date()
    begins, ends = midnight(today, span.zone), midnight(today + timedelta(days=1), span.zone)
    part = (ends - now) / (ends - begins)
    first, after = (edge.astimezone(span.zone).date() for edge in (span.start, span.end))
    used = sum(value for day, value in days.items() if first <= day < after)
    expect = Expectation(_whole_days(days, today))
    ahead = [today + timedelta(days=n) for n in range(1, (after - today).days)]
    told = expect.ahead(used, (today, part), ahead)

    def text(value: float | None) -> str | None:
        return None if value is None else text_of(round(value), budget.unit)

    known = expect.spread is not None
    return Progress(
        budget_id=budget.budget_id,
        period_start=span.start,
        period_end=span.end,
        unit=budget.unit,
        amount=text_of(budget.amount, budget.unit),
        used=text_of(used, budget.unit),
        left=text_of(max(0, budget.amount - used), budget.unit),
        share=round(used / budget.amount, 6),
        projected=text(told.expected),
        projected_low=text(told.low) if known else None,
        projected_high=text(told.high) if known else None,
        runs_out_on=runs_out(budget.amount - used, (today, part), after, expect),
        crossed=[threshold / 1000 for threshold in crossed],
        stopped=budget.hard_stop and used >= budget.amount,
    )


def _whole_days(days: Mapping[date, int], today: date) -> dict[date, float]:
    """Return the days that are over, from the first with any use."""
    used = [day for day, value in days.items() if value and day < today]
    if not used:
        return {}
    first = min(used)
    span = [first + timedelta(days=n) for n in range((today - first).days)]
    return {day: float(days.get(day, 0)) for day in span}
