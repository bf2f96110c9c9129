"""Calendar buckets of a period in any IANA zone. Pure.

Boundaries are computed here and handed to the store as numbers: there is one definition of "a day in
Kathmandu" or "an hour on the day the clocks change", and no second one in SQL that could disagree.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.periods import Period, midnight, month_start

BUCKETS: Final = ("15m", "hour", "day", "week", "month", "year")
MAX_BUCKETS: Final = 10_000
_QUARTER: Final = timedelta(minutes=15)


def bucket_starts(period: Period, bucket: str) -> list[datetime]:
    """Return the start (UTC) of every bucket that meets the period, in order; the first may begin before it.

    Days, weeks (Monday), months and years begin at local midnight. An hour begins on the local hour and
    where the clock is changed, so a repeated hour is two buckets and a half skipped one is a short bucket.
    Raises `InvalidRequest` for more than 10,000 buckets.
    """
    start = _floor(period.start, bucket, period.zone)
    starts: list[datetime] = []
    while start < period.end:
        following = _next(start, bucket, period.zone)
        if following > start:  # a local day that a zone skipped has no length and is no bucket
            starts.append(start)
        if len(starts) > MAX_BUCKETS:
            raise InvalidRequest(
                f"the period has more than {MAX_BUCKETS} buckets: ask for a shorter one or a wider bucket",
                code="too_many_buckets",
                fields={"bucket": bucket},
            )
        start = following
    return starts


def _floor(instant: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    utc = instant.astimezone(UTC)
    if bucket in ("15m", "hour"):
        quarter = utc - (utc - datetime(1970, 1, 1, tzinfo=UTC)) % _QUARTER
        return quarter if bucket == "15m" else _hour_floor(quarter, zone)
    return midnight(_first_day(utc.astimezone(zone).date(), bucket), zone)


def _next(start: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    if bucket == "15m":
        return start + _QUARTER
    if bucket == "hour":
        return _hour_end(start, zone)
    day = _next_day(_first_day(start.astimezone(zone).date(), bucket), bucket)
    following = midnight(day, zone)
    while following <= start:  # the day was skipped by its zone
        day = _next_day(day, bucket)
        following = midnight(day, zone)
    return following


def _first_day(day: date, bucket: str) -> date:
    if bucket == "week":
        return day - timedelta(days=day.weekday())
    if bucket == "month":
        return month_start(day)
    return date(day.year, 1, 1) if bucket == "year" else day


def _next_day(first: date, bucket: str) -> date:
    if bucket == "month":
        return month_start(first, 1)
    if bucket == "year":
        return date(first.year + 1, 1, 1)
    return first + timedelta(days=7 if bucket == "week" else 1)


def _hour_floor(quarter: datetime, zone: ZoneInfo) -> datetime:
    # Every zone's offset is a multiple of 15 minutes, so an hour begins on one of these quarters.
    while not _begins_hour(quarter, zone):
        quarter -= _QUARTER
    return quarter


def _hour_end(start: datetime, zone: ZoneInfo) -> datetime:
    whole = start + timedelta(minutes=60 - start.astimezone(zone).minute)
    if whole.astimezone(zone).utcoffset() == start.astimezone(zone).utcoffset():
        return whole
    quarter = start + _QUARTER
    while not _begins_hour(quarter, zone):
        quarter += _QUARTER
    return quarter


def _begins_hour(quarter: datetime, zone: ZoneInfo) -> bool:
    local, before = quarter.astimezone(zone), (quarter - _QUARTER).astimezone(zone)
    return local.minute == 0 or local.utcoffset() != before.utcoffset()
