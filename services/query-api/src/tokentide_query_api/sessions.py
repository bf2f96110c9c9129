"""`GET /api/v1/sessions`: sessions by their last call, newest first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tokentide_query_api.asking import Asking, Page
from tokentide_query_api.dimensions import DAY_MS, DIMENSIONS, SUMS
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import measures
from tokentide_query_api.resolution import parts
from tokentide_query_api.statement import LEDGER_SUMS, Statement, over

_SESSION: Final = DIMENSIONS["session_id"]
_DAY_S: Final = DAY_MS // 1000
# A list of sessions in a query helps the store to skip granules, up to a point.
_MAX_NAMED: Final = 2000
# Who and what took part: a count per value, so that what an upgrade took back is gone.
_PARTAKERS: Final = {
    "users": "x.user_id",
    "machines": "x.machine_id",
    "projects": "x.project",
    "clients": "x.client",
    "models": "x.model",
}
COLUMNS: Final = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.TIME, "first_call_at", "last_call_at"),
    *columns(Kind.NESTED, *_PARTAKERS, "sources"),
    *MEASURES,
)


class SessionPage(msgspec.Struct, frozen=True):
    """The sessions of a page in order, and the span of UTC days in which they have calls."""

    ids: list[str]
    start_ms: int
    end_ms: int
    next_cursor: str | None


async def sessions(ask: Asking) -> Answer:
    """Answer a page of sessions; calls without a session belong to none."""
    page = await session_page(ask)
    if not page.ids:
        return Answer({"items": [], "next_cursor": None}, COLUMNS, [])
    facts, times = await asyncio.gather(_facts(ask, page), _times(ask, page))
    items = [_item(session, facts[session], times[session]) for session in page.ids if session in facts]
    body = {"items": items, "next_cursor": page.next_cursor}
    return Answer(body, COLUMNS, items, page.next_cursor)


async def session_page(ask: Asking) -> SessionPage:
    """Find the sessions of a page.

    First by UTC day, from the rollup, then exactly, from the few days of the ledger that the page needs.
    """
    page = ask.page()
    days = await _days(ask, page)
    if not days:
        return SessionPage([], page.start_ms, page.start_ms, None)
    last_at = await _last_calls(ask, page, days)
    order = sorted(((at, session) for session, at in last_at.items() if session in days), reverse=True)
    if page.after:
        order = [one for one in order if one < (page.after.at, page.after.id)]
    listed = order[: page.limit]
    ids = [session for _, session in listed]
    cursor = page.next_cursor(*listed[-1]) if len(order) > page.limit else None
    start_ms = max(page.start_ms, min((days[s][0] for s in ids), default=0) * 1000)
    end_ms = min(page.end_ms, (max((days[s][1] for s in ids), default=0) + _DAY_S) * 1000)
    return SessionPage(ids, start_ms, max(start_ms, end_ms), cursor)


async def _days(ask: Asking, page: Page) -> dict[str, tuple[int, int]]:
    """Return first and last UTC day, in seconds, of every session that can be on the page.

    They are the sessions of the last days that together hold enough of them; a day is taken whole.
    """
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    dimensions = (_SESSION, *statement.scope.dimensions)
    newest = (page.after.at if page.after else page.end_ms - 1) // DAY_MS * _DAY_S
    # Sessions of the cursor's own day may all have been shown: they do not count towards the page.
    shown = statement.bind(newest if page.after else newest + _DAY_S, "UInt64")
    per_day = statement.sums(parts((page.start_ms, page.end_ms), dimensions), (_SESSION,), day=True)
    per_session = over(
        per_day,
        "d0, min(day) AS first_day, max(day) AS last_day",
        f"WHERE d0 != '' GROUP BY d0 HAVING last_day <= {statement.bind(newest, 'UInt64')}",
    )
    place = f"rank() OVER (PARTITION BY last_day = {shown} ORDER BY last_day DESC) AS place"
    placed = over(per_session, f"d0, first_day, last_day, {place}", "")
    sql = over(placed, "d0, first_day, last_day", f"WHERE place <= {page.limit + 1}")
    return {row["d0"]: (row["first_day"], row["last_day"]) for row in await ask.rows(statement, sql)}


async def _last_calls(ask: Asking, page: Page, days: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return the time of the last live call of each session, exact for the sessions of `days`."""
    start_ms = max(page.start_ms, min(last for _, last in days.values()) * 1000)
    end_ms = min(page.end_ms, (max(last for _, last in days.values()) + _DAY_S) * 1000)
    statement = Statement(ask.scope(start_ms, end_ms))
    where = f"x.session_id IN {statement.texts(list(days))}" if len(days) <= _MAX_NAMED else ""
    moments = _live_moments(statement, where)
    found = await ask.rows(statement, over(moments, "d0, max(at_ms) AS last_ms", "GROUP BY d0"))
    return {row["d0"]: row["last_ms"] for row in found}


async def _times(ask: Asking, page: SessionPage) -> dict[str, Mapping[str, str]]:
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    moments = _live_moments(statement, f"x.session_id IN {statement.texts(page.ids)}")
    sql = over(
        moments,
        "d0, fromUnixTimestamp64Milli(min(at_ms), 'UTC') AS first_call_at,"
        " fromUnixTimestamp64Milli(max(at_ms), 'UTC') AS last_call_at",
        "GROUP BY d0",
    )
    return {row["d0"]: row for row in await ask.rows(statement, sql)}


async def _facts(ask: Asking, page: SessionPage) -> dict[str, Mapping[str, Any]]:
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    sums = [f"sum({LEDGER_SUMS.get(name, f'x.sign * x.{name}')}) AS {name}" for name in SUMS]
    who = [f"sumMap(map(toString({c}), toInt64(x.sign))) AS {name}" for name, c in _PARTAKERS.items()]
    seen_by = "sumMap(map(arrayStringConcat(x.sources, '+'), toInt64(x.sign))) AS seen_by"
    select = ", ".join(["x.session_id AS d0", *sums, *who, seen_by])
    where = f"x.session_id IN {statement.texts(page.ids)}"
    sql = statement.ledger(select, where=where) + " GROUP BY x.session_id HAVING sum(toInt64(x.sign)) > 0"
    return {row["d0"]: row for row in await ask.rows(statement, sql)}


def _live_moments(statement: Statement, where: str) -> str:
    """Return a SELECT of every (session, millisecond) with a live call."""
    select = "x.session_id AS d0, toUnixTimestamp64Milli(x.occurred_at) AS at_ms"
    live = "GROUP BY x.session_id, x.occurred_at HAVING sum(toInt64(x.sign)) > 0"
    return f"{statement.ledger(select, where=where)} {live}"


def _item(session_id: str, facts: Mapping[str, Any], times: Mapping[str, str]) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "first_call_at": times["first_call_at"],
        "last_call_at": times["last_call_at"],
        **{name: named(facts[name]) for name in _PARTAKERS},
        "sources": sorted({source for text in named(facts["seen_by"]) for source in text.split("+")}),
        **measures(facts),
    }


def named(counts: Mapping[str, int]) -> Sequence[str]:
    """Return the known values that have a live call."""
    return sorted(value for value, n in counts.items() if n > 0 and value)
