"""Calendar buckets against a clock that is read minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.query_oracle import bucket_label
from tokentide_common.errors import InvalidRequest
from tokentide_query_api.buckets import BUCKETS, MAX_BUCKETS, bucket_starts
from tokentide_query_api.periods import Period

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo",
         "America/St_Johns", "Pacific/Chatham", "America/Nuuk", "Africa/Casablanca",
         "America/Sao_Paulo", "UTC")  # fmt: skip


def starts(zone: str, start: datetime, end: datetime, bucket: str) -> list[datetime]:
    return bucket_starts(Period(start, end, ZoneInfo(zone)), bucket)


@pytest.mark.parametrize("bucket", ["15m", "hour", "day"])
@settings(max_examples=40, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    year=st.sampled_from([2018, 2026]),  # São Paulo changed its clocks, at midnight, until 2019
    minute=st.integers(0, 365 * 1440),
    length=st.integers(1, 3 * 1440),
)
def test_each_minute_is_in_the_bucket_that_its_wall_clock_shows(bucket, zone, year, minute, length):
    first = datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    found = starts(zone, first, first + timedelta(minutes=length), bucket)
    minutes = [first + timedelta(minutes=n) for n in range(length)]
    shown = [bucket_label(at, bucket, ZoneInfo(zone)) for at in minutes]
    # A new bucket begins exactly at the minutes whose label differs from the minute before.
    expected = [
        at for at, label, before in zip(minutes[1:], shown[1:], shown, strict=False) if label != before
    ]
    assert [at for at in found if at > first] == expected
    assert bucket_label(found[0], bucket, ZoneInfo(zone)) == shown[0]
    before = found[0] - timedelta(minutes=1)
    assert bucket_label(before, bucket, ZoneInfo(zone)) != shown[0]


@pytest.mark.parametrize("bucket", ["week", "month", "year"])
@settings(max_examples=40, deadline=None)
@given(zone=st.sampled_from(ZONES), day=st.integers(0, 3000), days=st.integers(1, 800))
def test_wide_buckets_begin_at_the_local_midnight_of_their_first_day(bucket, zone, day, days):
    first = datetime(2018, 1, 1, 11, 7, tzinfo=UTC) + timedelta(days=day)
    found = starts(zone, first, first + timedelta(days=days), bucket)
    assert found == sorted(set(found))
    assert found[0] <= first < (found[1] if len(found) > 1 else first + timedelta(days=367))
    for at in found:
        label = bucket_label(at, bucket, ZoneInfo(zone))
        assert bucket_label(at - timedelta(seconds=1), bucket, ZoneInfo(zone)) != label
    moments = [
        *(first + timedelta(hours=h) for h in range(days * 24)),
        first + timedelta(days=days, seconds=-1),
    ]
    labels = {bucket_label(at, bucket, ZoneInfo(zone)) for at in moments}
    assert len(found) == len(labels)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", "2026-03-29", 23), ("Europe/Berlin", "2026-10-25", 25),
     ("America/New_York", "2026-11-01", 25),
     ("Australia/Lord_Howe", "2026-10-04", 24), ("Australia/Lord_Howe", "2026-04-05", 25)],
)  # fmt: skip
def test_a_repeated_hour_is_two_buckets_and_a_skipped_one_is_none(zone, day, hours):
    """Lord Howe moves its clocks by half an hour: one hour of that day is a short bucket."""
    first = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found = starts(zone, first.astimezone(UTC), (first + timedelta(days=1)).astimezone(UTC), "hour")
    assert len(found) == hours
    assert len({at.astimezone(ZoneInfo(zone)).isoformat() for at in found}) == hours


def test_more_buckets_than_the_bound_are_refused():
    first = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(starts("UTC", first, first + timedelta(minutes=15 * MAX_BUCKETS), "15m")) == MAX_BUCKETS
    with pytest.raises(InvalidRequest, match="more than 10000 buckets"):
        starts("UTC", first, first + timedelta(minutes=15 * MAX_BUCKETS, seconds=1), "15m")


def test_every_bucket_is_known():
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for bucket in BUCKETS:
        assert starts("UTC", first, first + timedelta(seconds=1), bucket)[0] <= first
