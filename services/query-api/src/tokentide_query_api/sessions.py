"""`GET /api/v1/sessions`: sessions by their last call, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from tokentide_query_api.asking import Asking, Page
from tokentide_query_api.dimensions import HOUR_MS, SESSION_KEY, SUMS
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
# Of so short a time a copy of the ledger by person has nothing nearer: to look into it takes a sixth of the
# statement. Those of one person in a longer time it has.
_BY_TIME: Final = {"optimize_use_projections": 0}
# Of so few hours there are few rows with many columns, which are better read side by side: the store would do
# so for ten times as many. Of more hours that would only take more CPU, while statistics of the columns,
# which take a tenth of a plan to look up, pay.
_FEW_HOURS_MS: Final = 6 * HOUR_MS
_SIDE_BY_SIDE: Final = {
    "merge_tree_min_rows_for_concurrent_read": 20_000,
    "merge_tree_min_bytes_for_concurrent_read": 0,
    "use_statistics": 0,
}
# Who and what took part.
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
    """The sessions of a page in order, and the stretches of the period in which they have calls."""

    ids: list[str]
    digests: list[int]
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


class _Last(NamedTuple):
    """The last call of a session: where it stands among the others. The digest is of the session."""

    at_ms: int
    session: str
    digest: int


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
    order = sorted(await _newest(ask, page), reverse=True)
    listed = order[: page.limit]
    digests = [last.digest for last in listed]
    ranges = await _ranges(ask, page, digests)
    cursor = page.next_cursor(listed[-1].at_ms, listed[-1].session) if len(order) > page.limit else None
    return SessionPage([last.session for last in listed], digests, ranges, cursor)


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


async def _ranges(ask: Asking, page: Page, digests: Sequence[int]) -> tuple[Range, ...]:
    """Return stretches of the period outside of which these sessions have no calls, at least one."""
    if not digests:
        return ((page.start_ms, page.end_ms),)
    scope = ask.scope(page.start_ms, page.end_ms)
    statement = Statement(scope)
    where = f"x.{SESSION_KEY.column} IN {statement.bind(list(digests), 'Array(UInt64)')}"
    from_parts = parts((page.start_ms, page.end_ms), (SESSION_KEY, *scope.dimensions))
    sql = statement.spans(from_parts, where=where)
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
    # One list of sums and one of partakers: each expression more is planned anew in every question.
    sums = ", ".join(LEDGER_SUMS.get(name, f"x.sign * x.{name}") for name in SUMS)
    who = ", ".join([*_PARTAKERS.values(), "x.sources"])
    moments = statement.ledger(
        f"x.session_id AS d0, x.occurred_at AS at, ({who}) AS who, sumForEach([{sums}]) AS sums",
        page.ranges,
        # Of another session with the same digest nothing is asked below.
        where=f"x.{SESSION_KEY.column} IN {statement.bind(page.digests, 'Array(UInt64)')}",
    )
    live = f"{moments} GROUP BY d0, at, who HAVING sum(toInt64(x.sign)) > 0"
    times = "min(y.at) AS first, max(y.at) AS last"
    facts = f"d0, sumForEach(y.sums) AS sums, groupUniqArray(y.who) AS who, {times}"
    sql = over(live, facts, "AS y GROUP BY d0")
    few = sum(end - start for start, end in page.ranges) <= _FEW_HOURS_MS
    return {row["d0"]: row for row in await ask.rows(statement, sql, _SIDE_BY_SIDE if few else None)}


def _item(session_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    *partakers, sources = zip(*facts["who"], strict=True)
    return {
        "session_id": session_id,
        "first_call_at": facts["first"],
        "last_call_at": facts["last"],
        **{name: sorted({*who} - {""}) for name, who in zip(_PARTAKERS, partakers, strict=True)},
        "sources": sorted({*chain.from_iterable(sources)}),
        **measures(dict(zip(SUMS, facts["sums"], strict=True))),
    }
