"""`pace`: what a day costs, whether that rises, and what week and month will have cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import fmean
from typing import Any, Final

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import usd
from tokentide_query_api.money.daily import Daily, amount, at_most_one, daily, key_row
from tokentide_query_api.money.trend import Expectation, trend_of
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period, midnight, month_start
from tokentide_query_api.reports.report import Report, Row

MOST_DAYS: Final = 186
_MOST_GROUPS: Final = 50
BY: Final = Parameter(
    "by", "One dimension, a row for each value; one row of all when left out.", repeated=True
)
GROUPS: Final = Parameter("limit", f"Rows at most, 1 to {_MOST_GROUPS}.", default="10")


class _Spans(msgspec.Struct, frozen=True):
    """The days around a moment. The moment is in `today`."""

    history: Period
    read: Period
    today: date
    left: float
    """Which part of today is still to come."""
    week: tuple[date, date]
    month: tuple[date, date]
    """First day, and first day after."""


async def _pace(ask: Asking, period: Period) -> Sequence[Row]:
    by = at_most_one(ask.arguments.dimensions(BY, least=0))
    column = METRICS[ask.arguments.text(p.METRIC)]
    limit = ask.arguments.number(GROUPS, _MOST_GROUPS)
    spans = _spans(period, ask.now)
    found = await daily(ask, ask.scope(spans.read.start_ms, spans.read.end_ms), spans.read, by, column)
    groups = found.values or ({} if by else {(): {}})
    order = sorted(groups, key=lambda key: (-sum(groups[key].values()), key))[:limit]
    return [{**key_row(by, key), **_row(found, groups[key], spans, column)} for key in order]


def _spans(period: Period, now: datetime) -> _Spans:
    # The last moment of a period that is over belongs to its last day.
    at = min(now, period.end - timedelta(milliseconds=1)).astimezone(UTC)
    today = at.astimezone(period.zone).date()
    begins, ends = midnight(today, period.zone), midnight(today + timedelta(days=1), period.zone)
    if begins - period.start > timedelta(days=MOST_DAYS):
        raise InvalidRequest(
            f"pace looks at {MOST_DAYS} days at most: shorten the period",
            code="too_many_points", fields={"from": f"at most {MOST_DAYS} days ago"},
        )  # fmt: skip
    monday = today - timedelta(days=today.weekday())
    first = month_start(today)
    earliest = min(period.start, midnight(min(monday, first), period.zone))
    return _Spans(
        Period(period.start, begins, period.zone),
        Period(earliest, at + timedelta(milliseconds=1), period.zone),
        today,
        (ends - at) / (ends - begins),
        (monday, monday + timedelta(days=7)),
        (first, month_start(today, 1)),
    )


def _row(found: Daily, values: Mapping[date, int], spans: _Spans, column: str) -> dict[str, Any]:
    whole = _whole_days(found, values, spans)
    trend = trend_of(list(whole.values()))
    expect = Expectation(whole)
    row: dict[str, Any] = {
        "metric": column.replace("_nano", "_usd"),
        "days": len(whole),
        "daily_average": amount(fmean(whole.values()), column) if whole else None,
        "trend": trend.direction,
        "slope_per_day": amount(trend.slope, column),
        "slope_share": None if trend.share is None else round(trend.share, 6),
        "mann_kendall_z": round(trend.z, 4),
    }
    for name, (first, after) in (("week", spans.week), ("month", spans.month)):
        so_far = sum(value for day, value in values.items() if first <= day < after)
        ahead = [spans.today + timedelta(days=n) for n in range(1, (after - spans.today).days)]
        told = expect.ahead(so_far, (spans.today, spans.left), ahead)
        row |= {
            f"{name}_so_far": usd(so_far) if column.endswith("_nano") else str(so_far),
            f"{name}_projected": amount(told.expected, column) if whole else None,
            f"{name}_low": None if expect.spread is None else amount(told.low, column),
            f"{name}_high": None if expect.spread is None else amount(told.high, column),
        }
    return row


def _whole_days(found: Daily, values: Mapping[date, int], spans: _Spans) -> dict[date, float]:
    """Return the whole days of the period, from the first that has any: before it nobody was there."""
    first = spans.history.start.astimezone(spans.history.zone)
    begins = first.date() if first.astimezone(UTC) == midnight(first.date(), spans.history.zone) else None
    days = [day for day in found.days if day < spans.today and (day > first.date() or day == begins)]
    used = [day for day in days if values.get(day)]
    return {day: float(values.get(day, 0)) for day in days if used and day >= used[0]}


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "by", "key", "metric"),
    *columns(Kind.COUNT, "days"),
    *columns(Kind.AMOUNT, "daily_average"),
    *columns(Kind.TEXT, "trend"),
    *columns(Kind.AMOUNT, "slope_per_day"),
    *columns(Kind.RATIO, "slope_share", "mann_kendall_z"),
    *columns(Kind.AMOUNT, "week_so_far", "week_projected", "week_low", "week_high"),
    *columns(Kind.AMOUNT, "month_so_far", "month_projected", "month_low", "month_high"),
)
REPORTS: Final = (
    Report(
        "pace",
        "What a day has on average, whether that rises, and what week and month will have had",
        _COLUMNS,
        _pace,
        (BY, p.METRIC, GROUPS),
    ),
)
