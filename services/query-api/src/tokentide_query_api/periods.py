"""Periods of time: what `from`, `to` and `tz` say, as two instants. Pure; the clock is an argument."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_common.events import EARLIEST, MAX_CLOCK_AHEAD
from tokentide_common.time_zones import time_zone

DEFAULT_PERIOD: Final = "30d"
NAMED_PERIODS: Final = (
    "today", "yesterday", "week", "last_week", "month", "last_month", "year", "last_year", "all",
)  # fmt: skip
_ROLLING = re.compile(r"(?P<count>[1-9][0-9]{0,3})(?P<unit>[dh])")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+ -]\d{2}:\d{2})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)


class Period(msgspec.Struct, frozen=True):
    """From `start` (included) to `end` (excluded), shown in `zone`."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def start_ms(self) -> int:
        """First millisecond inside."""
        return ceil_ms(self.start)

    @property
    def end_ms(self) -> int:
        """First millisecond after."""
        return ceil_ms(self.end)


def ceil_ms(instant: datetime) -> int:
    """Return milliseconds since 1970, rounded up: a call is at or after it as before."""
    return -((datetime(1970, 1, 1, tzinfo=UTC) - instant) // timedelta(milliseconds=1))


def zone_named(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises `InvalidRequest`."""
    try:
        return time_zone(name)
    except ValueError:
        raise InvalidRequest(
            "tz is not an IANA time zone",
            code="unknown_time_zone",
            fields={"tz": "for example Europe/Berlin"},
        ) from None


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local day in UTC, also where its midnight is skipped or repeated."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def month_start(day: date, months: int = 0) -> date:
    """Return the first day of the month that is `months` after the month of `day`."""
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def resolve(from_text: str | None, to_text: str | None, zone: ZoneInfo, now: datetime) -> Period:
    """Return the period that `from` and `to` name.

    Each is an RFC 3339 instant, a local date, or a named period: `from` means its start, `to` its end.
    Without `to`, a name or a date in `from` is the whole period and an instant lasts until now.
    Raises `InvalidRequest`.
    """
    if from_text is None:
        if to_text is not None:
            raise InvalidRequest("to needs from", code="invalid_period", fields={"from": "is missing"})
        from_text = DEFAULT_PERIOD
    start, end = _span(from_text, "from", zone, now)
    if to_text is not None:
        end = _span(to_text, "to", zone, now)[1]
    elif start == end:
        end = now
    if not _FIRST <= start < end <= _LAST:
        raise InvalidRequest(
            "from must be before to, both between 2000 and 2100",
            code="invalid_period",
            fields={"from": start.isoformat(), "to": end.isoformat()},
        )
    return Period(start, end, zone)


def _span(text: str, field: str, zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    """Return start and end of what `text` names; an instant is a span without length."""
    try:
        if _INSTANT.fullmatch(text):
            # An unescaped "+" in a URL arrives as a blank: no RFC 3339 offset is written with one.
            instant = datetime.fromisoformat(text[:11] + text[11:].replace(" ", "+")).astimezone(UTC)
            return instant, instant
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text)
            return midnight(day, zone), midnight(day + timedelta(days=1), zone)
        return _named(text, zone, now)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{field} is not a period",
            code="invalid_period",
            fields={field: f"RFC 3339, YYYY-MM-DD, <n>d, <n>h or one of {', '.join(NAMED_PERIODS)}"},
        ) from None


def _named(name: str, zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    rolling = _ROLLING.fullmatch(name)
    today = now.astimezone(zone).date()
    if rolling and rolling["unit"] == "h":
        # Ends on a quarter of an hour, so that rollups can answer it.
        quarter = timedelta(minutes=15)
        end = now.astimezone(UTC) + (EARLIEST - now) % quarter
        return end - timedelta(hours=int(rolling["count"])), end
    if rolling:
        first, after = today - timedelta(days=int(rolling["count"]) - 1), today + timedelta(days=1)
    else:
        first, after = calendar_span(name, today)
    return midnight(first, zone), midnight(after, zone)


def calendar_span(name: str, today: date) -> tuple[date, date]:
    """Return first day and day after the last of a named period. Raises `ValueError` for another name."""
    monday = today - timedelta(days=today.weekday())
    spans = {
        "today": (today, today + timedelta(days=1)),
        "yesterday": (today - timedelta(days=1), today),
        "week": (monday, monday + timedelta(days=7)),
        "last_week": (monday - timedelta(days=7), monday),
        "month": (month_start(today), month_start(today, 1)),
        "last_month": (month_start(today, -1), month_start(today)),
        "year": (date(today.year, 1, 1), date(today.year + 1, 1, 1)),
        "last_year": (date(today.year - 1, 1, 1), date(today.year, 1, 1)),
        # Every call that the ingest accepts lies inside.
        "all": (EARLIEST.date(), today + MAX_CLOCK_AHEAD + timedelta(days=1)),
    }
    if name not in spans:
        raise ValueError(name)
    return spans[name]
