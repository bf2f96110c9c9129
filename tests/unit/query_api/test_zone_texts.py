"""Times of blocks as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import query_oracle as oracle
from tokentide_common.events import EARLIEST
from tokentide_query_api.blocks.zone_texts import texts_in
from tokentide_query_api.dimensions import DAY_MS, QUARTER_MS

_FROM_MS = round((EARLIEST - timedelta(hours=5)).timestamp() * 1000)
_UNTIL_MS = round(datetime(2037, 12, 31, tzinfo=UTC).timestamp() * 1000)
_ZONES = sorted(available_timezones())


def expected(millis: int, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(millis // 1000, zone).replace(microsecond=millis % 1000 * 1000)
    return at.isoformat(timespec="milliseconds")


@given(st.sampled_from(_ZONES), st.integers(_FROM_MS, _UNTIL_MS))
def test_a_moment_is_written_as_a_date_writes_it(name, millis):
    zone = ZoneInfo(name)
    assert texts_in(zone)(millis) == expected(millis, zone)


@pytest.mark.parametrize(
    ("name", "day"), [(zone, day) for zone, days in oracle.ZONES.items() for day in days]
)
def test_both_ends_of_each_quarter_are_right_where_clocks_are_changed(name, day):
    zone = ZoneInfo(name)
    text = texts_in(zone)
    midnight = round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
    for start in range(midnight - DAY_MS, midnight + 2 * DAY_MS, QUARTER_MS):
        for millis in (start, start + QUARTER_MS - 1):
            assert text(millis) == expected(millis, zone)
