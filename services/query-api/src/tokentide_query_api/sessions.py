"""`GET /api/v1/sessions`: sessions by their last call, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import LEDGER, SESSION_HOURS, SESSION_KEY, SUMS
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import measures
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.session_pages import SessionPage, session_page, stretches_of
from tokentide_query_api.statement import LEDGER_SUMS, Statement, over

# Who and what took part, in the order in which `usage_session_hour` names them; sources follow.
_PARTAKERS: Final = ("users", "machines", "projects", "clients", "models")
COLUMNS: Final = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.TIME, "first_call_at", "last_call_at"),
    *columns(Kind.NESTED, *_PARTAKERS, "sources"),
    *MEASURES,
)
# A row of the rollup; and a call as such a row: of one list of partakers and one moment.
_OF_HOUR: Final = {
    "sums": f"[{', '.join(f'x.{name}' for name in SUMS)}]",
    "who": "x.whoMap.who",
    "who_calls": "x.whoMap.calls",
    "at_ms": "arrayMap(ms -> toInt64(toUnixTimestamp(x.bucket)) * 1000 + ms, x.momentsMap.into_ms)",
    "at_calls": "x.momentsMap.calls",
}
_OF_CALL: Final = {
    "sums": f"[{', '.join(LEDGER_SUMS.get(name, f'x.sign * x.{name}') for name in SUMS)}]",
    "who": "[toJSONString([x.user_id, x.machine_id, x.project, x.client, x.model,"
    " arrayStringConcat(x.sources, '+')])]",
    "who_calls": "[toInt64(x.sign)]",
    "at_ms": "[toUnixTimestamp64Milli(x.occurred_at)]",
    "at_calls": "[toInt64(x.sign)]",
}
_WHO: Final = msgspec.json.Decoder(tuple[str, ...])


async def sessions(ask: Asking) -> Answer:
    """Answer a page of sessions."""
    page = await session_page(ask)
    if not page.ids:
        return Answer({"items": [], "next_cursor": None}, COLUMNS, [])
    facts = await _facts(ask, page)
    items = [_item(session, facts[session]) for session in page.ids if session in facts]
    body = {"items": items, "next_cursor": page.next_cursor}
    return Answer(body, COLUMNS, items, page.next_cursor)


async def _facts(ask: Asking, page: SessionPage) -> dict[str, Mapping[str, Any]]:
    """Return the sums of each session with live calls, and how many calls each partakers and moment have."""
    scope = ask.scope(page.start_ms, page.end_ms)
    statement = Statement(scope)
    if SESSION_HOURS.covers(frozenset(scope.dimensions), latency=False):
        known = (SESSION_KEY, *scope.dimensions)
        from_parts = parts((page.start_ms, page.end_ms), known, tables=(SESSION_HOURS, LEDGER))
    else:
        from_parts = (Part(LEDGER, await stretches_of(ask, page)),)
    # Of another session with the same digest nothing is asked below.
    where = f"x.{SESSION_KEY.column} IN {statement.bind(page.digests, 'Array(UInt64)')}"
    rows = [statement.of(part, _columns(part), where=where) for part in from_parts]
    lists = "sumMap(y.who, y.who_calls) AS who, sumMap(y.at_ms, y.at_calls) AS at"
    live = "AS y GROUP BY d0 HAVING arrayExists(n -> n > 0, at.2)"
    sql = over(" UNION ALL ".join(rows), f"d0, sumForEach(y.sums) AS sums, {lists}", live)
    return {row["d0"]: row for row in await ask.rows(statement, sql)}


def _columns(part: Part) -> str:
    lists = _OF_CALL if part.table is LEDGER else _OF_HOUR
    return ", ".join(["x.session_id AS d0", *(f"{column} AS {name}" for name, column in lists.items())])


def _item(session_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    # What is left of calls that were taken back is none: an upgrade may have moved them to other partakers.
    who = [_WHO.decode(each) for each, calls in zip(*facts["who"], strict=True) if calls > 0]
    *partakers, sources = zip(*who, strict=True)
    at = [at_ms for at_ms, calls in zip(*facts["at"], strict=True) if calls > 0]
    return {
        "session_id": session_id,
        "first_call_at": _time(min(at)),
        "last_call_at": _time(max(at)),
        **{name: sorted({*each} - {""}) for name, each in zip(_PARTAKERS, partakers, strict=True)},
        "sources": sorted({source for each in sources for source in each.split("+")} - {""}),
        **measures(dict(zip(SUMS, facts["sums"], strict=True))),
    }


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
