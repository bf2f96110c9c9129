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
    """Return the same local dates and times a year earlier; of 29 February it is the 28th.

    A period that ends where 29 February begins has all of the 28th, and has it a year earlier too.
    """
    is_end_of_28th = period.end == midnight(period.end.astimezone(period.zone).date(), period.zone)
    end = _year_earlier(period.end, period, leap_day=(3, 1) if is_end_of_28th else (2, 28))
    return Period(_year_earlier(period.start, period), end, period.zone)


def _year_earlier(instant: datetime, period: Period, leap_day: tuple[int, int] = (2, 28)) -> datetime:
    local = instant.astimezone(period.zone)
    month, day = leap_day if (local.month, local.day) == (2, 29) else (local.month, local.day)
    if _day_that_begins(instant, period) is not None:
        # Where a day begins at one o'clock, the same day of another year begins at midnight.
        return midnight(date(local.year - 1, month, day), period.zone)
    return local.replace(year=local.year - 1, month=month, day=day).astimezone(UTC)


def _day_that_begins(instant: datetime, period: Period) -> date | None:
    """Return the local day that begins at this instant, None within a day."""
    # A day may begin at one o'clock, where the clocks are changed at midnight.
    day = instant.astimezone(period.zone).date()
    return day if instant == midnight(day, period.zone) else None
