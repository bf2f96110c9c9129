"""Periods in any time zone: they tile time, weeks are ISO weeks, a UTC day touches exactly what it meets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_ranker.periods import Period, containing, following, preceding, span, touched
from tokentide_ranker.ranker import with_followers
from tokentide_ranker.totals import pieces

# Offsets of quarter hours, both hemispheres' change-overs, changes at midnight, the far ends of the day.
ZONES = [
    "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "America/St_Johns", "Europe/Berlin",
    "America/Havana", "America/Santiago", "Asia/Beirut", "Africa/Cairo", "Pacific/Kiritimati", "Pacific/Niue",
]  # fmt: skip
zones = st.sampled_from(ZONES).map(ZoneInfo)
days = st.dates(date(2020, 1, 1), date(2035, 12, 31))
calendar_periods = days.flatmap(lambda day: st.sampled_from(sorted(containing(day) - containing_all())))


def containing_all() -> set[Period]:
    return {period for period in containing(date(2026, 1, 1)) if period.kind == "all"}


def test_weeks_are_iso_weeks_from_monday() -> None:
    found = {period.kind: period.start for period in containing(date(2027, 1, 3))}
    assert found == {
        "day": date(2027, 1, 3),
        "week": date(2026, 12, 28),
        "month": date(2027, 1, 1),
        "year": date(2027, 1, 1),
        "all": date(1970, 1, 1),
    }


def test_all_time_stands_alone() -> None:
    (everything,) = containing_all()
    assert following(everything) is preceding(everything) is None


@given(calendar_periods, zones)
def test_periods_follow_each_other_without_gap_or_overlap(period: Period, zone: ZoneInfo) -> None:
    after = following(period)
    assert after is not None
    assert preceding(after) == period
    start, end = span(period, zone)
    assert start < end == span(after, zone)[0]


@given(calendar_periods, zones)
def test_a_period_starts_at_the_first_instant_of_its_first_local_day(period: Period, zone: ZoneInfo) -> None:
    start, _ = span(period, zone)
    assert start.astimezone(zone).date() == period.start
    assert (start - timedelta(microseconds=1)).astimezone(zone).date() < period.start


@given(days, zones)
def test_a_utc_day_touches_the_periods_it_shares_time_with_and_no_others(day: date, zone: ZoneInfo) -> None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    found = touched([day], zone)
    near = {p for offset in range(-3, 4) for p in containing(day + timedelta(days=offset))}
    meeting = {p for p in near if span(p, zone)[0] < begin + timedelta(days=1) and span(p, zone)[1] > begin}
    assert found == meeting


def test_the_period_after_a_touched_one_is_ranked_too_for_its_movement() -> None:
    day = Period("day", date(2026, 11, 22))
    assert with_followers([day]) == [day, Period("day", date(2026, 11, 23))]


@given(calendar_periods, zones)
def test_the_pieces_of_a_period_cover_each_quarter_hour_once(period: Period, zone: ZoneInfo) -> None:
    start, end = span(period, zone)
    cut = pieces(start, end)
    quarter = 900
    first = int(datetime.fromisoformat(f"{cut['first_day']}T00:00+00:00").timestamp())
    after = int(datetime.fromisoformat(f"{cut['after_day']}T00:00+00:00").timestamp())
    covered = [
        *range(int(str(cut["head_from"])), int(str(cut["head_to"])), quarter),
        *range(first, after, quarter),
        *range(int(str(cut["tail_from"])), int(str(cut["tail_to"])), quarter),
    ]
    assert covered == list(range(int(start.timestamp()), int(end.timestamp()), quarter))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Santiago", date(2026, 9, 6), 23),
        ("America/Havana", date(2026, 11, 1), 25),
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
    ],
)
def test_days_on_which_clocks_change_have_their_own_length(zone: str, day: date, hours: float) -> None:
    start, end = span(Period("day", day), ZoneInfo(zone))
    assert (end - start) == timedelta(hours=hours)
