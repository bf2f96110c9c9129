"""Trends, projections, outliers, losses of caches and periods to compare with, by hand-computed numbers."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.money.against import before, year_before
from tokentide_query_api.money.daily import amount
from tokentide_query_api.money.outliers import judged, robust
from tokentide_query_api.money.prefixes import Call, losses
from tokentide_query_api.money.trend import Expectation, trend_of
from tokentide_query_api.periods import Period, resolve

MONDAY = date(2026, 11, 2)
VALUES = st.lists(st.integers(0, 10**6), min_size=2, max_size=30)


def test_the_slope_is_the_median_of_all_pairs():
    # slopes of the six pairs: 1, 2, 3, 3, 4, 5 → median 3
    found = trend_of([1, 2, 5, 10])
    assert found.slope == 3
    assert found.share == pytest.approx(3 / 4.5)
    # S = 6, variance 4·3·13/18 = 26/3
    assert found.z == pytest.approx(5 / math.sqrt(26 / 3))
    assert found.direction == "rising"
    assert trend_of([10, 5, 2, 1]).direction == "falling"


@pytest.mark.parametrize("values", [[], [5], [7, 7, 7, 7], [0, 0, 0], [1, 9, 1, 9, 1, 9], [1, 2]])
def test_what_has_no_sure_slope_is_steady(values):
    assert trend_of(values).direction == "steady"


def test_one_wild_day_does_not_make_a_trend():
    assert trend_of([10, 11, 9, 10, 1000, 10, 11, 9, 10]).direction == "steady"


@given(VALUES)
def test_the_mirrored_days_have_the_mirrored_trend(values):
    found, mirrored = trend_of(values), trend_of(values[::-1])
    assert mirrored.slope == pytest.approx(-found.slope)
    assert mirrored.z == pytest.approx(-found.z)


def test_a_span_has_what_is_there_what_is_left_of_today_and_the_days_after():
    # Two weeks: Mondays 10 and 14, Tuesdays 20 and 20, so the spread is √(2² + 2²) over 4 − 2 degrees.
    days = {MONDAY: 10.0, MONDAY + timedelta(7): 14.0}
    days |= {MONDAY + timedelta(1): 20.0, MONDAY + timedelta(8): 20.0}
    expect = Expectation(days)
    assert (expect.of(MONDAY + timedelta(14)), expect.of(MONDAY + timedelta(15))) == (12, 20)
    assert expect.of(MONDAY + timedelta(2)) == 16  # no Wednesday is known: the mean of all
    assert expect.spread == pytest.approx(2)
    told = expect.ahead(100, (MONDAY + timedelta(14), 0.25), [MONDAY + timedelta(15)])
    assert told.expected == 100 + 0.25 * 12 + 20
    assert told.high - told.expected == pytest.approx(1.2816 * 2 * math.sqrt(1.25))
    assert told.low == pytest.approx(told.expected - (told.high - told.expected))


def test_a_projection_is_never_below_what_is_there():
    expect = Expectation({MONDAY: 0.0, MONDAY + timedelta(1): 50.0, MONDAY + timedelta(2): 0.0})
    told = expect.ahead(90, (MONDAY + timedelta(3), 0.1), [])
    assert told.low == 90


def test_one_day_has_no_interval():
    assert Expectation({MONDAY: 5.0}).spread is None
    assert Expectation({}).spread is None


def test_a_days_z_is_its_distance_in_median_absolute_deviations():
    middle, spread, z = robust(40, [10, 12, 8, 11, 9])
    assert (middle, spread) == (10, pytest.approx(1.4826))
    assert z == pytest.approx(30 / 1.4826)


def test_alike_days_are_measured_by_what_differs_and_else_by_a_tenth():
    assert robust(10, [5, 5, 5, 5, 9])[1] == pytest.approx(1.253314 * 4 / 5)
    assert robust(10, [5, 5, 5, 5])[1] == pytest.approx(0.5)
    assert robust(10, [0, 0, 0, 0]) is None


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=8))
def test_the_median_itself_is_never_unusual(history):
    found = robust(median(history), history)
    assert found is None or found[2] == 0


def test_days_are_judged_by_their_own_weekdays_from_the_first_day_of_a_group():
    known = [MONDAY + timedelta(days=n) for n in range(36)]
    values = {day: (100.0 if day.weekday() == 5 else 1.0) for day in known[7:]}
    values[known[35]] = 2.0
    (one,) = judged(values, known, [known[35]], 4)
    assert (one.history, one.median, one.z) == (4, 1, pytest.approx(10))
    assert list(judged(values, known, [known[28]], 4)) == [], "three Mondays are known"


def turn(minute: float, read: int = 0, written: int = 0, **more: Any) -> Call:
    return Call(**{
        "session": 1, "calls": 1, "session_id": "s", "agent": "", "is_sidechain": False, "model": "m",
        "provider": "p", "service_tier": "", "speed": "", "inference_geo": "", "at_ms": int(minute * 60_000),
        "input_tokens": 10, "cache_read_tokens": read, "cache_write_5m_tokens": written,
        "cache_write_1h_tokens": 0, **more,
    })  # fmt: skip


def test_a_cache_is_lost_where_a_call_reads_far_less_than_was_cached():
    calls = [turn(0, 0, 10_000), turn(1, 10_000, 500), turn(8, 0, 10_600), turn(9, 10_600)]
    (loss,) = losses(calls)
    assert (loss.lost_tokens, loss.cause, loss.gap_ms) == (10_500, "expired", 420_000)


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        ({"model": "n"}, "model_changed"),
        ({}, "prompt_changed"),
        ({"at_ms": 6 * 60_000}, "expired"),
    ],
)
def test_a_lost_cache_has_a_cause(after, cause):
    (loss,) = losses([turn(0, 0, 10_000), turn(1, 0, 10_000, **after)])
    assert loss.cause == cause


def test_an_hour_long_cache_is_not_expired_after_six_minutes():
    first = turn(0, cache_write_1h_tokens=10_000)
    assert [loss.cause for loss in losses([first, turn(6, 0, 10_000)])] == ["prompt_changed"]
    assert [loss.cause for loss in losses([first, turn(61, 0, 10_000)])] == ["expired"]


@pytest.mark.parametrize(
    "calls",
    [
        [turn(0, 0, 10_000), turn(9, 0, 900)],  # summed up: the prompt is much shorter
        [turn(0, 0, 900), turn(9, 0, 900)],  # too small to be cached
        [turn(0, 0, 10_000), turn(9, 0, 10_000, agent="a")],  # another prompt
        [turn(0, 0, 10_000), turn(9, 0, 10_000, session_id="t")],
        [turn(0, 0, 10_000), turn(1, 8_000, 3_000)],
    ],
)
def test_what_only_looks_like_a_loss_is_none(calls):
    assert list(losses(calls)) == []


BERLIN = ZoneInfo("Europe/Berlin")


def between(first: str, last: str, zone: ZoneInfo = BERLIN) -> Period:
    return resolve(first, last, zone, datetime(2026, 11, 22, tzinfo=UTC))


@pytest.mark.parametrize(
    ("first", "last", "previous", "year"),
    [
        # whole months: the months before, over the change of clocks
        ("2026-11-01", "2026-11-30", ("2026-10-01", "2026-10-31"), ("2025-11-01", "2025-11-30")),
        ("2026-10-01", "2026-12-31", ("2026-07-01", "2026-09-30"), ("2025-10-01", "2025-12-31")),
        ("2026-01-01", "2026-12-31", ("2025-01-01", "2025-12-31"), ("2025-01-01", "2025-12-31")),
        # whole days: as many days before
        ("2026-10-25", "2026-10-31", ("2026-10-18", "2026-10-24"), ("2025-10-25", "2025-10-31")),
        ("2028-02-29", "2028-02-29", ("2028-02-28", "2028-02-28"), ("2027-02-28", "2027-02-28")),
        # to the end of the 28th, which is where the 29th begins
        ("2028-02-22", "2028-02-28", ("2028-02-15", "2028-02-21"), ("2027-02-22", "2027-02-28")),
    ],
)
def test_what_a_period_is_compared_with(first, last, previous, year):
    period = between(first, last)
    assert before(period) == between(*previous)
    assert year_before(period) == between(*year)


def test_hours_are_compared_with_as_many_hours():
    period = between("2026-10-25T00:00:00Z", "2026-10-25T05:30:00Z")
    assert before(period) == between("2026-10-24T18:30:00Z", "2026-10-25T00:00:00Z")


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (1_500_000_000.4, "cost_nano", "1.5"),
        (-0.2, "cost_nano", "0"),
        (12.3456, "calls", "12.346"),
        (7, "calls", "7"),
    ],
)
def test_amounts_are_exact_texts(value, column, text):
    assert amount(value, column) == text
