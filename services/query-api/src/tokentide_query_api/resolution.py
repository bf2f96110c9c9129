"""Which table answers for which part of a period: the coarsest that is exact there. Pure.

A question about a month in Kathmandu is answered from `usage_day` for every UTC day that lies wholly inside
it, from `usage_15m` for the hours left at both ends, and from the ledger for what no quarter of an hour
can tell (a period that begins at 10:07:30). The parts do not overlap and leave nothing out: the sum is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from tokentide_query_api.dimensions import LEDGER, TABLES, Dimension, Table

Range = tuple[int, int]
"""Milliseconds since 1970: the first inside and the first after."""

# More ranges than this from a coarse table cost more to tell apart than they save.
_MAX_RANGES: Final = 64


class Part(msgspec.Struct, frozen=True):
    """What one table answers for."""

    table: Table
    ranges: tuple[Range, ...]


def parts(
    edges_ms: Sequence[int],
    dimensions: Iterable[Dimension],
    *,
    latency: bool = False,
    tables: Sequence[Table] = TABLES,
) -> tuple[Part, ...]:
    """Split the period from the first edge to the last one among the tables that know these dimensions.

    No row of a part spans an edge in between, so that each row belongs to one bucket.
    """
    needed = frozenset(dimensions)
    remaining = [(a, b) for a, b in pairwise(edges_ms) if a < b]
    found: list[Part] = []
    for table in tables:
        if table.covers(needed, latency):
            covered = merged(_aligned(piece, table.grain_ms) for piece in remaining)
            if covered and (len(covered) <= _MAX_RANGES or table is LEDGER):
                found.append(Part(table, covered))
                remaining = [rest for piece in remaining for rest in _outside(piece, table.grain_ms)]
    return tuple(found) or (Part(LEDGER, ((edges_ms[0], edges_ms[0]),)),)


def merged(ranges: Iterable[Range | None]) -> tuple[Range, ...]:
    """Join ranges, given in order, that touch each other."""
    joined: list[Range] = []
    for piece in ranges:
        if piece is None:
            continue
        if joined and joined[-1][1] == piece[0]:
            joined[-1] = (joined[-1][0], piece[1])
        else:
            joined.append(piece)
    return tuple(joined)


def stretches(ranges: Iterable[Range], most: int) -> tuple[Range, ...]:
    """Return ranges that cover these, at most so many: joined where they meet and over the shortest gaps."""
    apart = _joined(sorted(ranges), 0)
    if len(apart) > most:
        gaps = sorted(later[0] - earlier[1] for earlier, later in pairwise(apart))
        apart = _joined(apart, gaps[len(apart) - most - 1])
    return tuple(apart)


def _joined(ranges: Iterable[Range], gap: int) -> list[Range]:
    """Join ranges, by their starts, that are no further apart than this."""
    joined: list[Range] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _aligned(piece: Range, grain_ms: int) -> Range | None:
    """Return the part of a range that whole grains make up."""
    start, end = -(-piece[0] // grain_ms) * grain_ms, piece[1] // grain_ms * grain_ms
    return (start, end) if start < end else None


def _outside(piece: Range, grain_ms: int) -> list[Range]:
    inside = _aligned(piece, grain_ms)
    if inside is None:
        return [piece]
    return [(a, b) for a, b in ((piece[0], inside[0]), (inside[1], piece[1])) if a < b]
