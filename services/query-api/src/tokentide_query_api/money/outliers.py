"""How unusual a day is, against the same weekdays before it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from statistics import fmean, median
from typing import Final

import msgspec

_NORMAL_MAD: Final = 1.4826
"""Of a normal distribution, the standard deviation over the median absolute deviation."""
_NORMAL_MEAN: Final = 1.253314
"""The same over the mean absolute deviation, for days most of which are alike."""
_LEAST_SPREAD: Final = 0.1
"""Days that were all alike are taken to spread by this part of their median."""
WEEKS: Final = 8


class Judged(msgspec.Struct, frozen=True):
    """A day beside the same weekdays before it."""

    day: date
    value: float
    median: float
    spread: float
    z: float
    history: int


def robust(value: float, history: Sequence[float]) -> tuple[float, float, float] | None:
    """Return median, spread and z of a value; None where nothing was ever used, which measures nothing."""
    middle = median(history)
    away = [abs(one - middle) for one in history]
    spread = _NORMAL_MAD * median(away) or _NORMAL_MEAN * fmean(away) or _LEAST_SPREAD * abs(middle)
    return (middle, spread, (value - middle) / spread) if spread else None


def judged(
    values: Mapping[date, float], known: Sequence[date], days: Sequence[date], least: int
) -> Iterator[Judged]:
    """Judge `days` by up to eight of the same weekdays before each, at least `least`.

    `known` are the days of which values are known; what is left out of `values` is 0. Before the first day
    with a value the group was not there.
    """
    used = [day for day in known if values.get(day)]
    there = {day for day in known if used and day >= used[0]}
    for day in days:
        before = [day - timedelta(weeks=n) for n in range(1, WEEKS + 1)]
        history = [values.get(one, 0.0) for one in before if one in there]
        found = robust(values.get(day, 0.0), history) if len(history) >= least else None
        if found is not None:
            yield Judged(day, values.get(day, 0.0), *found, len(history))
