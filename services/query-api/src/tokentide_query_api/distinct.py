"""How many users, sessions, machines and projects have live calls: each once however often it called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import (
    DIGEST_DAYS,
    DIGEST_HOURS,
    DIMENSIONS,
    LEDGER,
    QUARTERS,
    SESSION_DAYS,
    SESSION_KEY,
    TABLES,
)
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, nobody, over

DISTINCT: Final = {
    "users": DIMENSIONS["user_id"],
    "sessions": SESSION_KEY,
    "machines": DIMENSIONS["machine_id"],
    "projects": DIMENSIONS["project"],
}
# Whose digests are in tables of their own, in the order of `what` there.
_DIGESTS: Final = ("users", "machines", "projects")
# There are as many sessions as all of the others have rows: asked at the same time as these, by one thread.
# Two would each tell sessions apart, and then again what both found: half as much CPU more.
_AT_ONCE: Final[Mapping[tuple[str, ...], int]] = {("sessions",): 1, _DIGESTS: 2}


_OF_DIGESTS: Final = (DIGEST_DAYS, DIGEST_HOURS, QUARTERS, LEDGER)
_NONE: Final = {"n": 0, "taken_back": 0}


async def distinct(ask: Asking, scope: Scope) -> dict[str, int]:
    """Count who has a live call: an upgrade may have taken a user's only call to somebody else."""
    found: dict[str, int] = {}
    for counts in await asyncio.gather(*(_counts(ask, scope, *each) for each in _AT_ONCE.items())):
        found |= counts
    return {name: found[name] for name in DISTINCT}


async def _counts(ask: Asking, scope: Scope, names: tuple[str, ...], threads: int) -> dict[str, int]:
    statement = Statement(scope)
    if names == _DIGESTS and not scope.dimensions:
        from_parts = parts((scope.start_ms, scope.end_ms), (), tables=_OF_DIGESTS)
        sql = statement.digests(from_parts, [DISTINCT[name] for name in names])
    else:
        sql = statement.distinct({DISTINCT[name]: _parts(scope, name) for name in names})
    told = {row["what"]: row for row in await ask.rows(statement, sql, {"max_threads": threads})}
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        row = told.get(place, _NONE)
        found[name] = await _net(ask, scope, name) if row["taken_back"] else row["n"]
    return found


async def _net(ask: Asking, scope: Scope, name: str) -> int:
    """Count those with calls left after what was taken back: in twice the time, and seldom needed."""
    statement = Statement(scope)
    what = DISTINCT[name]
    groups = statement.sums(_parts(scope, name), (what,), names=("calls",))
    [row] = await ask.rows(statement, over(groups, "count() AS n", f"WHERE d0 != {nobody(what)}"))
    return int(row["n"])


def _parts(scope: Scope, name: str) -> tuple[Part, ...]:
    tables = (SESSION_DAYS, *TABLES) if name == "sessions" else TABLES
    return parts((scope.start_ms, scope.end_ms), (DISTINCT[name], *scope.dimensions), tables=tables)
