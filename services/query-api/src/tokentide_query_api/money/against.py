"""The period that another one is compared with: the one before it, or the same a year earlier. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from tokentide_query_api.periods import Period, midnight, month_start

HOW: Final = ("previous", "year")


def before(period: Period) -> Period:
    """Return the period that ends where this one begins and is as long by the calendar.

    Whole months come after as many whole months, whole days after as many days, whatever the clocks do
    meanwhile; anything else after as many hours.
    """
    first, after = (_day_that_begins(edge, period) for edge in (period.start, period.end))
    if first is None or after is None:
        return Period(period.start - (period.end - period.start), period.start, period.zone)
    if first.day == after.day == 1:
        months = 12 * (after.year - first.year) + after.month - first.month
        return Period(midnight(month_start(first, -months), period.zone), period.start, period.zone)
    return Period(midnight(first - (after - first), period.zone), period.start, period.zone)


def year_before(period: Period) -> Period:
    """Return the same local dates and times a year earlier; of 29 February it is the 28th."""
    return Period(_year_earlier(period.start, period), _year_earlier(period.end, period), period.zone)


def _year_earlier(instant: datetime, period: Period) -> datetime:
    local = instant.astimezone(period.zone)
    is_leap_day = (local.month, local.day) == (2, 29)
    earlier = local.replace(year=local.year - 1, day=28 if is_leap_day else local.day)
    # Where a day begins at one o'clock, the same day of another year begins at midnight.
    begins = _day_that_begins(instant, period) is not None
    return midnight(earlier.date(), period.zone) if begins else earlier.astimezone(UTC)


def _day_that_begins(instant: datetime, period: Period) -> date | None:
    """Return the local day that begins at this instant, None within a day."""
    # A day may begin at one o'clock, where the clocks are changed at midnight.
    day = instant.astimezone(period.zone).date()
    return day if instant == midnight(day, period.zone) else None
