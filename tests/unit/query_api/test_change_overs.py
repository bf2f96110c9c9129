"""The days on which clocks change, by hand: named periods, budgets, series, patterns and comparisons.

Lord Howe changes by half an hour, São Paulo changed at midnight (last in February 2019), New York at two;
Kathmandu, a quarter off all others, does not.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.money.against import before, year_before
from tokentide_query_api.money.budget_spans import span_at, span_before
from tokentide_query_api.periods import Period, midnight, resolve

NEW_YORK, LORD_HOWE, SAO_PAULO, KATHMANDU = (
    "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu",
)  # fmt: skip
SPAN_NAMES = {"day": ("today", "daily"), "week": ("week", "weekly"), "month": ("month", "monthly")}
WHOLE_HOURS = [f"{hour:02}:00" for hour in range(24)]


class Change(NamedTuple):
    """A local day with its week and month, begin and end in UTC, and what a clock shows as hours begin."""

    zone: str
    day: date
    spans: dict[str, tuple[str, str]]
    hours: list[str]

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def span(self, name: str) -> tuple[datetime, datetime]:
        start, end = (datetime.fromisoformat(f"{text}+00:00") for text in self.spans[name])
        return start, end


CHANGES = (
    Change(NEW_YORK, date(2026, 3, 8), {
        "day": ("2026-03-08T05:00", "2026-03-09T04:00"),
        "week": ("2026-03-02T05:00", "2026-03-09T04:00"),
        "month": ("2026-03-01T05:00", "2026-04-01T04:00"),
    }, [hour for hour in WHOLE_HOURS if hour != "02:00"]),
    Change(NEW_YORK, date(2026, 11, 1), {
        "day": ("2026-11-01T04:00", "2026-11-02T05:00"),
        "week": ("2026-10-26T04:00", "2026-11-02T05:00"),
        "month": ("2026-11-01T04:00", "2026-12-01T05:00"),
    }, [*WHOLE_HOURS[:2], "01:00", *WHOLE_HOURS[2:]]),
    Change(LORD_HOWE, date(2026, 10, 4), {
        "day": ("2026-10-03T13:30", "2026-10-04T13:00"),
        "week": ("2026-09-27T13:30", "2026-10-04T13:00"),
        "month": ("2026-09-30T13:30", "2026-10-31T13:00"),
    }, [*WHOLE_HOURS[:2], "02:30", *WHOLE_HOURS[3:]]),
    Change(LORD_HOWE, date(2026, 4, 5), {
        "day": ("2026-04-04T13:00", "2026-04-05T13:30"),
        "week": ("2026-03-29T13:00", "2026-04-05T13:30"),
        "month": ("2026-03-31T13:00", "2026-04-30T13:30"),
    }, [*WHOLE_HOURS[:2], "01:30", *WHOLE_HOURS[2:]]),
    Change(SAO_PAULO, date(2018, 11, 4), {
        "day": ("2018-11-04T03:00", "2018-11-05T02:00"),
        "week": ("2018-10-29T03:00", "2018-11-05T02:00"),
        "month": ("2018-11-01T03:00", "2018-12-01T02:00"),
    }, WHOLE_HOURS[1:]),
    Change(SAO_PAULO, date(2019, 2, 16), {
        "day": ("2019-02-16T02:00", "2019-02-17T03:00"),
        "week": ("2019-02-11T02:00", "2019-02-18T03:00"),
        "month": ("2019-02-01T02:00", "2019-03-01T03:00"),
    }, [*WHOLE_HOURS, "23:00"]),
    Change(KATHMANDU, date(2026, 10, 25), {
        "day": ("2026-10-24T18:15", "2026-10-25T18:15"),
        "week": ("2026-10-18T18:15", "2026-10-25T18:15"),
        "month": ("2026-09-30T18:15", "2026-10-31T18:15"),
    }, WHOLE_HOURS),
)  # fmt: skip
MOMENT = timedelta(milliseconds=1)
of_each_change = pytest.mark.parametrize("change", CHANGES, ids=lambda c: f"{c.zone.split('/')[1]}-{c.day}")


def moments(change: Change) -> list[datetime]:
    """The first moment of the day, the last, and one in each quarter of an hour between."""
    start, end = change.span("day")
    quarters = int((end - start) / timedelta(minutes=15))
    return [start + n * timedelta(minutes=15) for n in range(quarters)] + [end - MOMENT]


@of_each_change
@pytest.mark.parametrize("name", SPAN_NAMES)
def test_at_every_moment_of_the_day_its_day_week_and_month_are_the_same(change, name):
    """Also in an hour that comes twice, and for budgets as for questions."""
    word, budget = SPAN_NAMES[name]
    for now in moments(change):
        asked, counted = resolve(word, None, change.tz, now), span_at(budget, now, change.tz)
        assert (asked.start, asked.end) == (counted.start, counted.end) == change.span(name), now


@of_each_change
@pytest.mark.parametrize("name", SPAN_NAMES)
def test_periods_touch_those_before_and_after(change, name):
    start, end = change.span(name)
    word, budget = SPAN_NAMES[name]
    now = change.span("day")[0]
    last = resolve({"today": "yesterday"}.get(word, f"last_{word}"), None, change.tz, now)
    assert last.end == start
    span = span_at(budget, now, change.tz)
    assert span_before(budget, span) == last
    assert before(Period(start, end, change.tz)).end == start
    assert span_at(budget, end, change.tz).start == end
    assert span_at(budget, start - MOMENT, change.tz) == last


@of_each_change
@pytest.mark.parametrize("bucket", SPAN_NAMES)
def test_a_series_has_the_day_the_week_and_the_month_as_one_bucket_each(change, bucket):
    start, end = change.span(bucket)
    around = Period(start - timedelta(days=40), end + timedelta(days=40), change.tz)
    starts = bucket_starts(around, bucket)
    at = starts.index(start)
    assert starts[at + 1] == end
    # Asked for a part of it, the bucket is still named by its start.
    part = Period(start + timedelta(minutes=7), start + timedelta(minutes=9), change.tz)
    assert bucket_starts(part, bucket) == [start]


@of_each_change
def test_the_hours_of_the_day_are_those_that_a_clock_shows(change):
    start, end = change.span("day")
    starts = bucket_starts(Period(start, end, change.tz), "hour")
    assert [f"{at.astimezone(change.tz):%H:%M}" for at in starts] == change.hours
    assert len({at.astimezone(change.tz).isoformat() for at in starts}) == len(starts)
    for first, following in pairwise([*starts, end]):
        # Each moment of a bucket shows the hour of its start: that is the cell of the activity pattern.
        minutes = [
            first + timedelta(minutes=n) for n in range(int((following - first) / timedelta(minutes=1)))
        ]
        shown = {(at.astimezone(change.tz).date(), at.astimezone(change.tz).hour) for at in minutes}
        assert shown == {(change.day, first.astimezone(change.tz).hour)}


@of_each_change
def test_the_day_before_and_the_same_day_a_year_earlier_are_whole_days(change):
    start, end = change.span("day")
    days = [change.day - timedelta(days=1), change.day.replace(year=change.day.year - 1)]
    told = before(Period(start, end, change.tz)), year_before(Period(start, end, change.tz))
    for day, period in zip(days, told, strict=True):
        assert (period.start, period.end) == (
            midnight(day, change.tz),
            midnight(day + timedelta(days=1), change.tz),
        )
    after = Period(end, midnight(change.day + timedelta(days=2), change.tz), change.tz)
    assert (before(after).start, before(after).end) == (start, end)


@pytest.mark.parametrize(
    ("zone", "new_year", "monday"),
    [
        (NEW_YORK, "2027-01-01T05:00", "2026-12-28T05:00"),
        (LORD_HOWE, "2026-12-31T13:00", "2026-12-27T13:00"),
        (SAO_PAULO, "2027-01-01T03:00", "2026-12-28T03:00"),
        (KATHMANDU, "2026-12-31T18:15", "2026-12-27T18:15"),
    ],
)
def test_the_year_ends_at_local_midnight_and_the_week_goes_on(zone, new_year, monday):
    tz = ZoneInfo(zone)
    turn, week = (datetime.fromisoformat(f"{text}+00:00") for text in (new_year, monday))
    old, new = turn - MOMENT, turn
    assert resolve("year", None, tz, old).end == resolve("year", None, tz, new).start == turn
    assert resolve("month", None, tz, old).end == resolve("month", None, tz, new).start == turn
    assert resolve("last_year", None, tz, new).end == resolve("yesterday", None, tz, new).end == turn
    assert resolve("week", None, tz, old) == resolve("week", None, tz, new)
    assert resolve("week", None, tz, new).start == week
    assert (span_at("weekly", old, tz), span_at("monthly", old, tz).end) == (span_at("weekly", new, tz), turn)
    around = Period(turn - timedelta(hours=30), turn + timedelta(hours=30), tz)
    for bucket in ("hour", "day", "month", "year"):
        assert turn in bucket_starts(around, bucket), bucket
    assert bucket_starts(around, "week") == [week]
    whole = resolve("last_year", None, tz, new)
    assert [at.astimezone(tz).month for at in bucket_starts(whole, "month")] == list(range(1, 13))
    assert bucket_starts(whole, "day")[-1] == turn - timedelta(days=1)


def test_a_leap_day_is_the_end_of_february_in_every_zone():
    for zone in (NEW_YORK, LORD_HOWE, SAO_PAULO, KATHMANDU):
        tz = ZoneInfo(zone)
        noon = datetime(2028, 2, 29, 12, tzinfo=tz).astimezone(UTC)
        assert resolve("month", None, tz, noon).end == resolve("today", None, tz, noon).end
        day = resolve("today", None, tz, noon)
        assert year_before(day).start.astimezone(tz).date() == date(2027, 2, 28)
