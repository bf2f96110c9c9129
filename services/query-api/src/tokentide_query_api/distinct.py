"""How many users, sessions, machines and projects have live calls: each once however often it called."""

from __future__ import annotations

import asyncio
from typing import Final

from tokentide_common.store import Setting
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, SESSION_KEY
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, nobody, over

DISTINCT: Final = {
    "users": DIMENSIONS["user_id"],
    "sessions": SESSION_KEY,
    "machines": DIMENSIONS["machine_id"],
    "projects": DIMENSIONS["project"],
}
# There are as many sessions as all of the others have rows: asked at the same time as these.
_AT_ONCE: Final = (("sessions",), ("users", "machines", "projects"))
# Several threads each tell values apart and then again what they found: half as much CPU more. Instead
# questions run at the same time.
_SETTINGS: Final[dict[str, Setting]] = {"max_threads": 1}


async def distinct(ask: Asking, scope: Scope) -> dict[str, int]:
    """Count who has a live call: an upgrade may have taken a user's only call to somebody else."""
    found: dict[str, int] = {}
    for counts in await asyncio.gather(*(_counts(ask, scope, names) for names in _AT_ONCE)):
        found |= counts
    return {name: found[name] for name in DISTINCT}


async def _counts(ask: Asking, scope: Scope, names: tuple[str, ...]) -> dict[str, int]:
    statement = Statement(scope)
    sql = statement.distinct({DISTINCT[name]: _parts(scope, name) for name in names})
    told = {row["what"]: row for row in await ask.rows(statement, sql, _SETTINGS)}
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        row = told[place]
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
