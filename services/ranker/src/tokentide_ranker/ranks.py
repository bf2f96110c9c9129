"""From values to ranks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import msgspec


class Ranking(msgspec.Struct, frozen=True):
    """A ranking as columns of equal length, best first; equal values are ordered by entity."""

    total: int
    entities: list[str]
    values: list[int]
    ranks: list[int]
    """Competition ranks: equal values share one, and the next is as many places later (1, 2, 2, 4)."""
    previous_ranks: list[int | None]
    """Rank in the period before; None when absent there."""
    percentiles: list[float]
    """100 × entries with a smaller value ÷ other entries: 100 for a sole leader, and for one alone."""
    shares: list[float]
    """value ÷ total, from 0 to 1; 0 when the total is 0."""


def rank(values: Mapping[str, int], previous: Mapping[str, int]) -> Ranking:
    """Rank entities by value, highest first, and compare with their `previous` values."""
    before = competition_ranks(previous)
    now = competition_ranks(values)
    behind = {place: len(values) - place + 1 - sum(1 for _ in tied) for place, tied in groupby(now.values())}
    others = len(values) - 1
    total = sum(values.values())
    return Ranking(
        total=total,
        entities=list(now),
        values=[values[entity] for entity in now],
        ranks=list(now.values()),
        previous_ranks=[before.get(entity) for entity in now],
        percentiles=[100 * behind[place] / others if others else 100.0 for place in now.values()],
        shares=[values[entity] / total if total else 0.0 for entity in now],
    )


def competition_ranks(values: Mapping[str, int]) -> dict[str, int]:
    """Return the rank of each entity, best first."""
    ranks: dict[str, int] = {}
    place, last = 0, None
    for index, (entity, value) in enumerate(sorted(values.items(), key=_best_first), start=1):
        if value != last:
            place, last = index, value
        ranks[entity] = place
    return ranks


def _best_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
