"""Which sessions come next on a page, by their last calls, and when they have calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from tokentide_query_api.asking import Asking, Page
from tokentide_query_api.dimensions import SESSION_KEY
from tokentide_query_api.resolution import Range, parts, stretches
from tokentide_query_api.scope import Filter
from tokentide_query_api.statement import Statement, over

# Pages are looked for backwards from where they begin: first in so much time, then in more.
_FIRST_SPAN_MS: Final = 900_000
_LEAST_GROWTH, _MOST_GROWTH = 4, 64
# More stretches of the ledger than this cost more to tell apart than they save.
_MAX_RANGES: Final = 64
# Of so short a time a copy of the ledger by person has nothing nearer: to look into it takes a sixth of the
# statement. Those of one person in a longer time it has.
_BY_TIME: Final = {"optimize_use_projections": 0}


class SessionPage(msgspec.Struct, frozen=True):
    """The sessions of a page in order, with their digests, and the period that is asked for."""

    ids: list[str]
    digests: list[int]
    start_ms: int
    end_ms: int
    next_cursor: str | None


class _Last(NamedTuple):
    """The last call of a session: where it stands among the others. The digest is of the session."""

    at_ms: int
    session: str
    digest: int


async def session_page(ask: Asking) -> SessionPage:
    """Find the sessions of a page; calls without a session belong to none."""
    page = ask.page()
    order = sorted(await _newest(ask, page), reverse=True)
    listed = order[: page.limit]
    cursor = page.next_cursor(listed[-1].at_ms, listed[-1].session) if len(order) > page.limit else None
    ids, digests = [last.session for last in listed], [last.digest for last in listed]
    return SessionPage(ids, digests, page.start_ms, page.end_ms, cursor)


async def stretches_of(ask: Asking, page: SessionPage) -> tuple[Range, ...]:
    """Return stretches of the period outside of which the sessions of a page have no calls, at least one."""
    whole = (page.start_ms, page.end_ms)
    if not page.digests:
        return (whole,)
    scope = ask.scope(*whole)
    statement = Statement(scope)
    where = f"x.{SESSION_KEY.column} IN {statement.bind(page.digests, 'Array(UInt64)')}"
    sql = statement.spans(parts(whole, (SESSION_KEY, *scope.dimensions)), where=where)
    found = [(1000 * row["t"], 1000 * (row["t"] + row["length"])) for row in await ask.rows(statement, sql)]
    inside = [(max(start, page.start_ms), min(end, page.end_ms)) for start, end in found]
    return stretches(inside, _MAX_RANGES) or (whole,)


async def _newest(ask: Asking, page: Page) -> list[_Last]:
    """Return the last calls of the sessions that come next: more than a page, or all there are.

    Whatever has its last call within the time that was looked at comes before whatever has it earlier.
    """
    end_ms = min(page.end_ms, page.after.at + 1) if page.after else page.end_ms
    span = _FIRST_SPAN_MS
    while True:
        start_ms = max(page.start_ms, end_ms - span)
        found = await _last_calls(ask, page, start_ms, end_ms)
        if len(found) > page.limit or start_ms <= page.start_ms:
            return found
        growth = 2 * (page.limit + 1) // max(1, len(found))
        span *= min(max(growth, _LEAST_GROWTH), _MOST_GROWTH)


async def _last_calls(ask: Asking, page: Page, start_ms: int, end_ms: int) -> list[_Last]:
    """Return the last live calls of sessions: of those that had it in this time, after the cursor."""
    statement = Statement(ask.scope(start_ms, end_ms))
    select = "x.session_id AS d0, toUnixTimestamp64Milli(x.occurred_at) AS at_ms"
    live = "GROUP BY x.session_id, x.occurred_at HAVING sum(toInt64(x.sign)) > 0"
    moments = statement.ledger(select, where="x.session_id != ''") + " " + live
    sql = over(moments, "d0, max(at_ms) AS last_ms, sipHash64(d0) AS digest", "GROUP BY d0")
    if page.after is None:
        sql += f" ORDER BY last_ms DESC, d0 DESC LIMIT {page.limit + 1}"
    rows = await ask.rows(statement, sql, _BY_TIME if end_ms - start_ms <= _FIRST_SPAN_MS else None)
    found = [_Last(row["last_ms"], row["d0"], row["digest"]) for row in rows]
    if page.after is None:
        return found
    found = [last for last in found if (last.at_ms, last.session) < (page.after.at, page.after.id)]
    gone_on = await _live_digests(ask, [last.session for last in found], end_ms, page.end_ms)
    return [last for last in found if last.digest not in gone_on]


async def _live_digests(ask: Asking, ids: Sequence[str], start_ms: int, end_ms: int) -> set[int]:
    """Return the digests of those of some sessions that have live calls in this time."""
    if not ids or start_ms >= end_ms:
        return set()
    statement = Statement(ask.scope(start_ms, end_ms).narrowed(Filter(SESSION_KEY, tuple(ids))))
    from_parts = parts((start_ms, end_ms), statement.scope.dimensions)
    sql = statement.sums(from_parts, (SESSION_KEY,), names=("calls",))
    return {row["d0"] for row in await ask.rows(statement, sql)}
