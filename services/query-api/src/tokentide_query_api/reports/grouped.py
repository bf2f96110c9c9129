"""Sums by dimensions, and how many of something each group has: what most reports are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import Dimension
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Filter, Scope
from tokentide_query_api.statement import Statement, over

Key = tuple[str, ...]


class Reader(Protocol):
    """Whoever may ask the store, as far as a statement goes."""

    async def rows(self, statement: Statement, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a finished statement."""


def narrowed(scope: Scope, dimension: Dimension, values: Sequence[str]) -> Scope:
    """Return a scope whose calls have one of these values besides."""
    return msgspec.structs.replace(scope, filters=(*scope.filters, Filter(dimension, tuple(values))))


async def sums_by(
    ask: Reader,
    scope: Scope,
    by: Sequence[Dimension],
    *,
    edges_ms: Sequence[int] = (),
    edges_s: Sequence[int] = (),
    order: str = "",
) -> list[dict[str, Any]]:
    """Return a row of sums for each group: `d0`, `d1`, …, with `edges_s` the start `t` of its bucket.

    `edges_ms` are the edges of buckets that no row of a rollup may span. `order` is put behind the question.
    """
    statement = Statement(scope)
    edges = edges_ms or (scope.start_ms, scope.end_ms)
    from_parts = parts(edges, (*by, *scope.dimensions))
    return await ask.rows(statement, f"{statement.sums(from_parts, by, edges_s=edges_s)} {order}")


async def sums_with_members(
    ask: Asking, scope: Scope, by: Sequence[Dimension], member: Dimension
) -> list[dict[str, Any]]:
    """Return a row of sums for each group and, as `members`, how many known values of `member` it has."""
    # Apart from each other: the sums come from a table that does not know members, with far fewer rows.
    found, members = await asyncio.gather(sums_by(ask, scope, by), members_by(ask, scope, by, member))
    return [{**row, "members": members.get(key_values(row, len(by)), 0)} for row in found]


async def members_by(
    ask: Asking, scope: Scope, by: Sequence[Dimension], member: Dimension
) -> Mapping[Key, int]:
    """Return how many known values of `member` have a live call in each group."""
    statement = Statement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), (*by, member, *scope.dimensions))
    keys = [f"d{i}" for i in range(len(by))]
    select = ", ".join([*keys, f"countIf(z.d{len(by)} != '') AS members"])
    group = f"GROUP BY {', '.join(keys)}" if keys else ""
    sql = over(statement.sums(from_parts, (*by, member)), select, f"AS z {group}")
    return {key_values(row, len(by)): row["members"] for row in await ask.rows(statement, sql)}


async def buckets_by(ask: Asking, scope: Scope, by: Dimension, starts_s: Sequence[int]) -> Mapping[str, int]:
    """Return in how many of the buckets that begin at these seconds each group has a live call."""
    statement = Statement(scope)
    edges = [scope.start_ms, *(1000 * s for s in starts_s[1:]), scope.end_ms]
    from_parts = parts(edges, (by, *scope.dimensions))
    found = await ask.rows(
        statement,
        over(statement.sums(from_parts, (by,), edges_s=starts_s), "d0, count() AS n", "GROUP BY d0"),
    )
    return {row["d0"]: row["n"] for row in found}


def key_values(row: Mapping[str, Any], count: int) -> Key:
    """Return the first `count` dimensions of a row."""
    return tuple(row[f"d{i}"] for i in range(count))
