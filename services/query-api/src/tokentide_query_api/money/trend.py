"""Where daily values lead: their slope, and what is still to come, with an interval. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import combinations
from statistics import fmean, median
from typing import Final, Literal

import msgspec

Direction = Literal["rising", "steady", "falling"]
STEADY_SHARE: Final = 0.01
"""A slope of less than this share of the mean a day is no trend."""
_SURE: Final = 1.645
"""Mann and Kendall's z beyond which a slope is not chance: 90 %, both sides."""
_INTERVAL_Z: Final = 1.2816
"""80 % of a normal distribution lie within so many standard deviations."""
_RECENT_DAYS: Final = 28
_LEAST_SAME_WEEKDAY: Final = 2
_LEAST_DAYS: Final = 2


class Trend(msgspec.Struct, frozen=True):
    """How daily values change."""

    direction: Direction
    slope: float
    """Theil and Sen's: the median of the slopes between any two days."""
    share: float | None
    """The slope as a share of the mean; None where the mean is 0."""
    z: float
    """Mann and Kendall's: how far the order of the days is from chance."""


class Projection(msgspec.Struct, frozen=True):
    """What a week or a month will have had."""

    expected: float
    low: float
    high: float


def trend_of(values: Sequence[float]) -> Trend:
    """Return the trend of one value a day; of fewer than two days there is none."""
    if len(values) < _LEAST_DAYS:
        return Trend("steady", 0.0, None, 0.0)
    pairs = list(combinations(enumerate(values), 2))
    slope = median((b - a) / (j - i) for (i, a), (j, b) in pairs)
    z = _mann_kendall(values, sum((b > a) - (b < a) for (_, a), (_, b) in pairs))
    mean = fmean(values)
    share = slope / mean if mean else None
    sure = share is not None and abs(share) >= STEADY_SHARE and abs(z) >= _SURE
    return Trend(("rising" if slope > 0 else "falling") if sure else "steady", slope, share, z)


def _mann_kendall(values: Sequence[float], score: int) -> float:
    n = len(values)
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if not variance or not score:
        return 0.0
    return (score - math.copysign(1, score)) / math.sqrt(variance)


class Expectation:
    """What a day is expected to have, from the last four weeks of whole days.

    The mean of the same weekdays where two are known, else of all days. The spread is the standard deviation
    of what the days had beside that.
    """

    def __init__(self, days: Mapping[date, float]) -> None:
        recent = sorted(days)[-_RECENT_DAYS:]
        by_weekday: dict[int, list[float]] = defaultdict(list)
        for day in recent:
            by_weekday[day.weekday()].append(days[day])
        self._mean = fmean([days[day] for day in recent]) if recent else 0.0
        self._weekdays = {
            weekday: fmean(own) for weekday, own in by_weekday.items() if len(own) >= _LEAST_SAME_WEEKDAY
        }
        residuals = [days[day] - self.of(day) for day in recent]
        freedom = len(recent) - max(1, len(self._weekdays))
        self.spread = math.sqrt(sum(r * r for r in residuals) / freedom) if freedom > 0 else None

    def of(self, day: date) -> float:
        """Return what this day is expected to have."""
        return self._weekdays.get(day.weekday(), self._mean)

    def ahead(self, so_far: float, left_of_today: tuple[date, float], days: Sequence[date]) -> Projection:
        """Return what a span will have had: what it has, what is left of today, and the days after.

        Days are taken to differ independently, so the interval widens with the root of their number. It is
        never below what is there already.
        """
        today, part = left_of_today
        expected = so_far + part * self.of(today) + sum(self.of(day) for day in days)
        reach = _INTERVAL_Z * (self.spread or 0.0) * math.sqrt(len(days) + part)
        return Projection(expected, max(so_far, expected - reach), expected + reach)
