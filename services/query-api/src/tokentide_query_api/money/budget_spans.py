"""Which day, week or month a budget is for, which thresholds are crossed, and when it runs out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts.people import Organization
from tokentide_query_api.money.trend import Expectation
from tokentide_query_api.periods import Period, midnight, month_start, zone_named


def zone_of(organization: Organization | None) -> ZoneInfo:
    """Return the zone in which an organisation's periods begin; UTC where its own is not known here."""
    try:
        return zone_named(organization.time_zone if organization is not None else "UTC")
    except InvalidRequest:  # kept by a system that knew more zones than this one
        return zone_named("UTC")


def span_at(period: str, at: datetime, zone: ZoneInfo) -> Period:
    """Return the local day, week (from Monday) or month that an instant lies in."""
    first = _first_day(period, at.astimezone(zone).date())
    return Period(midnight(first, zone), midnight(_next(period, first), zone), zone)


def span_before(period: str, span: Period) -> Period:
    """Return the one before."""
    return span_at(period, span.start - timedelta(milliseconds=1), span.zone)


def crossed(used: int, amount: int, thresholds: Sequence[int]) -> list[int]:
    """Return the thresholds, in thousandths of the amount, that are reached."""
    return [threshold for threshold in sorted(thresholds) if used * 1000 >= amount * threshold]


def runs_out(left: int, today: tuple[date, float], after: date, expect: Expectation) -> date | None:
    """Return the day before `after` on which what is left is used up at the expected pace, if any is.

    `today` has the part of it that is still to come.
    """
    day, part = today
    remaining = float(left)
    while day < after:
        remaining -= part * expect.of(day)
        if remaining <= 0:
            return day
        day, part = day + timedelta(days=1), 1.0
    return None


def _first_day(period: str, day: date) -> date:
    if period == "monthly":
        return month_start(day)
    return day - timedelta(days=day.weekday()) if period == "weekly" else day


def _next(period: str, first: date) -> date:
    if period == "monthly":
        return month_start(first, 1)
    return first + timedelta(days=7 if period == "weekly" else 1)
