"""`GET /api/v1/sessions`: sessions by their last call, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tokentide_query_api.asking import Asking, Page
from tokentide_query_api.dimensions import SESSION_KEY, SUMS
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import measures
from tokentide_query_api.resolution import Range, parts, stretches
from tokentide_query_api.scope import Filter
from tokentide_query_api.statement import LEDGER_SUMS, Statement, over

# Pages are looked for backwards from where they begin: first in so much time, then in more.
_FIRST_SPAN_MS: Final = 900_000
_LEAST_GROWTH, _MOST_GROWTH = 4, 64
# More stretches of the ledger than this cost more to tell apart than they save.
_MAX_RANGES: Final = 64
# Who and what took part.
_PARTAKERS: Final = {
    "users": "x.user_id",
    "machines": "x.machine_id",
    "projects": "x.project",
    "clients": "x.client",
    "models": "x.model",
}
_SEEN_BY: Final = "arrayStringConcat(x.sources, '+')"
COLUMNS: Final = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.TIME, "first_call_at", "last_call_at"),
    *columns(Kind.NESTED, *_PARTAKERS, "sources"),
    *MEASURES,
)


class SessionPage(msgspec.Struct, frozen=True):
    """The sessions of a page in order, and the stretches of the period in which they have calls."""

    ids: list[str]
    ranges: tuple[Range, ...]
    next_cursor: str | None

    @property
    def start_ms(self) -> int:
        """From when on they have calls."""
        return self.ranges[0][0]

    @property
    def end_ms(self) -> int:
        """Until when they have calls."""
        return self.ranges[-1][1]


async def sessions(ask: Asking) -> Answer:
    """Answer a page of sessions; calls without a session belong to none."""
    page = await session_page(ask)
    if not page.ids:
        return Answer({"items": [], "next_cursor": None}, COLUMNS, [])
    facts = await _facts(ask, page)
    items = [_item(session, facts[session]) for session in page.ids if session in facts]
    body = {"items": items, "next_cursor": page.next_cursor}
    return Answer(body, COLUMNS, items, page.next_cursor)


async def session_page(ask: Asking) -> SessionPage:
    """Find the sessions of a page by their last calls, and where in the period their other calls are."""
    page = ask.page()
    order = sorted(((at, session) for session, at in (await _newest(ask, page)).items()), reverse=True)
    listed = order[: page.limit]
    ids = [session for _, session in listed]
    ranges = await _ranges(ask, page, ids)
    cursor = page.next_cursor(*listed[-1]) if len(order) > page.limit else None
    return SessionPage(ids, ranges, cursor)


async def _newest(ask: Asking, page: Page) -> dict[str, int]:
    """Return sessions that come next with the time of their last call: more than a page, or all there are.

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


async def _last_calls(ask: Asking, page: Page, start_ms: int, end_ms: int) -> dict[str, int]:
    """Return when sessions had their last live call: those that had it in this time, after the cursor."""
    statement = Statement(ask.scope(start_ms, end_ms))
    select = "x.session_id AS d0, toUnixTimestamp64Milli(x.occurred_at) AS at_ms"
    live = "GROUP BY x.session_id, x.occurred_at HAVING sum(toInt64(x.sign)) > 0"
    moments = statement.ledger(select, where="x.session_id != ''") + " " + live
    sql = over(moments, "d0, max(at_ms) AS last_ms, sipHash64(d0) AS digest", "GROUP BY d0")
    if page.after is None:
        sql += f" ORDER BY last_ms DESC, d0 DESC LIMIT {page.limit + 1}"
        return {row["d0"]: row["last_ms"] for row in await ask.rows(statement, sql)}
    cursor = (page.after.at, page.after.id)
    found = [row for row in await ask.rows(statement, sql) if (row["last_ms"], row["d0"]) < cursor]
    gone_on = await _live_digests(ask, [row["d0"] for row in found], end_ms, page.end_ms)
    return {row["d0"]: row["last_ms"] for row in found if row["digest"] not in gone_on}


async def _live_digests(ask: Asking, ids: Sequence[str], start_ms: int, end_ms: int) -> set[int]:
    """Return the digests of those of some sessions that have live calls in this time."""
    if not ids or start_ms >= end_ms:
        return set()
    statement = Statement(ask.scope(start_ms, end_ms).narrowed(Filter(SESSION_KEY, tuple(ids))))
    from_parts = parts((start_ms, end_ms), statement.scope.dimensions)
    sql = statement.sums(from_parts, (SESSION_KEY,), names=("calls",))
    return {row["d0"] for row in await ask.rows(statement, sql)}


async def _ranges(ask: Asking, page: Page, ids: Sequence[str]) -> tuple[Range, ...]:
    """Return stretches of the period outside of which these sessions have no calls, at least one."""
    if not ids:
        return ((page.start_ms, page.end_ms),)
    scope = ask.scope(page.start_ms, page.end_ms).narrowed(Filter(SESSION_KEY, tuple(ids)))
    statement = Statement(scope)
    sql = statement.spans(parts((page.start_ms, page.end_ms), scope.dimensions))
    found = map(_span, await ask.rows(statement, sql))
    inside = [(max(start, page.start_ms), min(end, page.end_ms)) for start, end in found]
    return stretches(inside, _MAX_RANGES) or ((page.start_ms, page.end_ms),)


def _span(row: Mapping[str, int]) -> Range:
    """Return when the calls of an hour or a day can be: of a single one this is often known."""
    start_ms = 1000 * row["t"] + (row["into_ms"] if row["calls"] == 1 else 0)
    alone = row["calls"] == 1 and row["into_ms"] > 0
    return (start_ms, start_ms + 1) if alone else (start_ms, start_ms + 1000 * row["length"])


async def _facts(ask: Asking, page: SessionPage) -> dict[str, Mapping[str, Any]]:
    """Return sums, partakers and times of each session, from one reading of its calls.

    An upgrade takes a row back in the same moment and with the same partakers: what is left of these is live.
    """
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    sums = [f"sum({LEDGER_SUMS.get(name, f'x.sign * x.{name}')}) AS {name}" for name in SUMS]
    who = {**_PARTAKERS, "seen_by": _SEEN_BY}
    named = [f"{column} AS {name}" for name, column in who.items()]
    keys = ", ".join(["x.session_id", "x.occurred_at", *who.values()])
    moments = statement.ledger(
        ", ".join(["x.session_id AS d0", "x.occurred_at AS at", *named, *sums]),
        page.ranges,
        where=f"x.session_id IN {statement.texts(page.ids)}",
    )
    totals = [f"sum(y.{name}) AS {name}" for name in SUMS]
    partakers = [f"groupUniqArray(y.{name}) AS {name}" for name in who]
    times = ["min(y.at) AS first_call_at", "max(y.at) AS last_call_at"]
    live = f"{moments} GROUP BY {keys} HAVING sum(toInt64(x.sign)) > 0"
    sql = over(live, ", ".join(["d0", *totals, *partakers, *times]), "AS y GROUP BY d0")
    return {row["d0"]: row for row in await ask.rows(statement, sql)}


def _item(session_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "first_call_at": facts["first_call_at"],
        "last_call_at": facts["last_call_at"],
        **{name: sorted(filter(None, facts[name])) for name in _PARTAKERS},
        "sources": sorted({source for text in facts["seen_by"] for source in text.split("+")}),
        **measures(facts),
    }
