"""Periods in an organisation's time zone: which ones a UTC day touches, and the instants they span. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from tokentide_common.rankings import ALL_TIME_START, PERIOD_KINDS, PeriodKind, period_start

_DAY: Final = timedelta(days=1)
# All time is every day that the store's Date can hold, in UTC: it needs no zone.
_ALL_TIME: Final = (
    datetime.combine(ALL_TIME_START, time(), UTC),
    datetime(2149, 1, 1, tzinfo=UTC),
)


class Period(msgspec.Struct, frozen=True, order=True):
    """A calendar period: its kind and its first local day."""

    kind: PeriodKind
    start: date


def following(period: Period) -> Period | None:
    """Return the period after this one; all time has none."""
    if period.kind == "all":
        return None
    # The longest period of each kind is shorter than the step, and the step ends inside the next one.
    step = {"day": 1, "week": 7, "month": 31, "year": 366}[period.kind]
    return Period(period.kind, period_start(period.kind, period.start + step * _DAY))


def preceding(period: Period) -> Period | None:
    """Return the period before this one; all time has none."""
    if period.kind == "all":
        return None
    return Period(period.kind, period_start(period.kind, period.start - _DAY))


def span(period: Period, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first instant of a period and the first one after it, in UTC."""
    after = following(period)
    if after is None:
        return _ALL_TIME
    return _midnight(period.start, zone), _midnight(after.start, zone)


def touched(utc_days: Iterable[date], zone: ZoneInfo) -> set[Period]:
    """Return every period that shares an instant with one of the UTC days."""
    found: set[Period] = set()
    for day in utc_days:
        begin = datetime.combine(day, time(), UTC)
        first = begin.astimezone(zone).date()
        last = (begin + _DAY - timedelta(microseconds=1)).astimezone(zone).date()
        for offset in range((last - first).days + 1):
            found |= containing(first + offset * _DAY)
    return found


def containing(day: date) -> set[Period]:
    """Return the period of each kind that a local day lies in."""
    return {Period(kind, period_start(kind, day)) for kind in PERIOD_KINDS}


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # fold=0 is the first instant of the day, also where its midnight is skipped or happens twice.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
