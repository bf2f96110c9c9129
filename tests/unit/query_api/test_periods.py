"""`from`, `to` and `tz` as two instants, in any zone and on the days when clocks change."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.periods import ceil_ms, resolve, zone_named

NOW = datetime(2026, 11, 22, 10, 30, 7, tzinfo=UTC)  # a Sunday


def span(text: str | None, to: str | None = None, zone: str = "UTC", now: datetime = NOW) -> tuple[str, str]:
    period = resolve(text, to, ZoneInfo(zone), now)
    return tuple(f"{t.astimezone(ZoneInfo(zone)):%Y-%m-%dT%H:%M%z}" for t in (period.start, period.end))


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("today", "2026-11-22", "2026-11-23"),
        ("yesterday", "2026-11-21", "2026-11-22"),
        ("7d", "2026-11-16", "2026-11-23"),
        ("1d", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-16", "2026-11-23"),
        ("last_week", "2026-11-09", "2026-11-16"),
        ("month", "2026-11-01", "2026-12-01"),
        ("last_month", "2026-10-01", "2026-11-01"),
        ("year", "2026-01-01", "2027-01-01"),
        ("last_year", "2025-01-01", "2026-01-01"),
        ("2026-02-28", "2026-02-28", "2026-03-01"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Caracas"])
def test_a_named_period_is_whole_days_of_the_zone(name, start, end, zone):
    midnights = [datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)) for day in (start, end)]
    assert span(name, zone=zone) == tuple(f"{t:%Y-%m-%dT%H:%M%z}" for t in midnights)


def test_today_is_another_day_where_it_is_already_tomorrow():
    late = datetime(2026, 11, 22, 18, 20, tzinfo=UTC)
    assert span("today", zone="Asia/Kathmandu", now=late)[0] == "2026-11-23T00:00+0545"
    assert span("today", zone="America/New_York", now=late)[0] == "2026-11-22T00:00-0500"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-06-15", 24),
        ("Africa/Cairo", "2026-04-24", 23),  # midnight itself is skipped
        ("Africa/Cairo", "2026-10-29", 25),
    ],
)
def test_a_day_on_which_clocks_change_has_its_own_length(zone, day, hours):
    period = resolve(day, None, ZoneInfo(zone), NOW)
    assert (period.end - period.start) == timedelta(hours=hours)
    local = (
        period.start.astimezone(ZoneInfo(zone)),
        (period.start - timedelta(seconds=1)).astimezone(ZoneInfo(zone)),
    )
    assert (local[0].date().isoformat(), local[1].date() < local[0].date()) == (day, True)


def test_an_instant_lasts_until_now_and_a_name_in_to_means_its_end():
    assert span("2026-11-22T08:00:00Z") == ("2026-11-22T08:00+0000", "2026-11-22T10:30+0000")
    assert span("2026-11-01T00:00:00+01:00", "2026-11-02")[1] == "2026-11-03T00:00+0000"
    assert span("last_month", "today") == ("2026-10-01T00:00+0000", "2026-11-23T00:00+0000")
    assert span("24h") == ("2026-11-21T10:45+0000", "2026-11-22T10:45+0000")
    assert span(None) == span("30d")


def test_an_unescaped_plus_in_an_offset_is_understood():
    assert span("2026-11-22T08:00:00 02:00")[0] == "2026-11-22T06:00+0000"


@given(st.text(max_size=30))
def test_no_text_is_more_than_refused(text):
    with contextlib.suppress(InvalidRequest):
        period = resolve(text, None, ZoneInfo("UTC"), NOW)
        assert period.start < period.end
    with contextlib.suppress(InvalidRequest):
        period = resolve("today", text, ZoneInfo("UTC"), NOW)
        assert period.start < period.end
    with contextlib.suppress(InvalidRequest):
        assert zone_named(text).key == text


@given(st.integers(0, 4_102_444_800_000_000), st.integers(0, 4_102_444_800_000))
def test_a_call_is_inside_by_milliseconds_exactly_when_it_is_inside_by_its_time(edge_us, call_ms):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    edge, at = epoch + timedelta(microseconds=edge_us), epoch + timedelta(milliseconds=call_ms)
    assert (call_ms >= ceil_ms(edge)) == (at >= edge)
