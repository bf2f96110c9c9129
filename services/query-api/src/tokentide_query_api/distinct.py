"""How many users, sessions, machines and projects have live calls: each once however often it called."""

from __future__ import annotations

from typing import Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import (
    DIGEST_DAYS,
    DIGEST_HOURS,
    DIMENSIONS,
    LEDGER,
    QUARTERS,
    SESSION_KEY,
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
_SESSIONS: Final = ("sessions",)
# Whose digests are in tables of their own, in the order of `what` there.
_DIGESTS: Final = ("users", "machines", "projects")
# Two would each tell digests apart, and then again what both found: half as much CPU more.
_ONE_THREAD: Final = {"max_threads": 1}
_OF_DIGESTS: Final = (DIGEST_DAYS, DIGEST_HOURS, QUARTERS, LEDGER)
_NONE: Final = {"n": 0, "taken_back": 0}


async def sessions(ask: Asking, scope: Scope) -> dict[str, int]:
    """Count sessions that have a live call: an upgrade may have taken a session's only call to another."""
    return await _counts(ask, scope, _SESSIONS)


async def users_machines_projects(ask: Asking, scope: Scope) -> dict[str, int]:
    """Count users, machines and projects likewise."""
    return await _counts(ask, scope, _DIGESTS)


async def _counts(ask: Asking, scope: Scope, names: tuple[str, ...]) -> dict[str, int]:
    statement = Statement(scope)
    by_digest = names == _DIGESTS and not scope.dimensions
    if by_digest:
        from_parts = parts((scope.start_ms, scope.end_ms), (), tables=_OF_DIGESTS)
        sql = statement.digests(from_parts, [DISTINCT[name] for name in names])
    else:
        sql = statement.distinct({DISTINCT[name]: _parts(scope, name) for name in names})
    threads = _ONE_THREAD if by_digest or names == _SESSIONS else None
    told = {row["what"]: row for row in await ask.rows(statement, sql, threads)}
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
    return parts((scope.start_ms, scope.end_ms), (DISTINCT[name], *scope.dimensions))
