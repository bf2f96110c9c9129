"""`GET /api/v1/coverage`: per session, which sources saw how many of its calls, and possible doubles."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.sessions import SessionPage, session_page
from tokentide_query_api.statement import Statement, over

_SOURCES: Final = ("cli", "otlp", "proxy", "api")
# The split of cache writes is left out: a source may know only their total.
_SAME: Final = (
    "x.session_id AS d0, x.call_id AS call_id, x.occurred_at AS at, x.version AS version, x.model AS model,"
    " x.input_tokens AS input_tokens, x.cache_read_tokens AS cache_read_tokens,"
    " x.cache_write_5m_tokens + x.cache_write_1h_tokens AS cache_write_tokens,"
    " x.output_tokens AS output_tokens, any(x.sources) AS sources"
)
_STATE: Final = (
    "x.session_id, x.call_id, x.occurred_at, x.version, x.model, x.input_tokens, x.cache_read_tokens,"
    " x.cache_write_5m_tokens + x.cache_write_1h_tokens, x.output_tokens"
)
_VECTOR: Final = "d0, model, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens"
COLUMNS: Final = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.COUNT, "calls", *(f"seen_by_{source}" for source in _SOURCES)),
    *columns(Kind.NESTED, "by_sources", "possible_doubles"),
)


async def coverage(ask: Asking) -> Answer:
    """Answer a page of coverage, sessions in the order of `/sessions`."""
    page = await session_page(ask)
    if not page.ids:
        return Answer({"items": [], "next_cursor": None}, COLUMNS, [])
    counts, doubles = await asyncio.gather(_counts(ask, page), _doubles(ask, page))
    items = [_item(s, counts[s], doubles.get(s, [])) for s in page.ids if s in counts]
    table = [{**item, **{f"seen_by_{s}": n for s, n in item["seen_by"].items()}} for item in items]
    return Answer({"items": items, "next_cursor": page.next_cursor}, COLUMNS, table, page.next_cursor)


async def _counts(ask: Asking, page: SessionPage) -> dict[str, dict[str, int]]:
    """Return the number of live calls per session and set of sources, like `cli+otlp`."""
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    select = (
        "x.session_id AS d0, arrayStringConcat(x.sources, '+') AS sources_text, sum(toInt64(x.sign)) AS calls"
    )
    where = f"x.session_id IN {statement.texts(page.ids)}"
    sql = statement.ledger(select, where=where) + " GROUP BY d0, sources_text HAVING calls > 0"
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in await ask.rows(statement, sql):
        found[row["d0"]][row["sources_text"]] = row["calls"]
    return found


async def _doubles(ask: Asking, page: SessionPage) -> dict[str, list[dict[str, Any]]]:
    """Return calls of one session with the same model and tokens that no common source told apart.

    Such calls may be one call known under two ids that no observation links. They are named, never merged.
    """
    statement = Statement(ask.scope(page.start_ms, page.end_ms))
    some = "x.output_tokens + x.input_tokens + x.cache_read_tokens > 0"
    where = f"x.session_id IN {statement.texts(page.ids)} AND {some}"
    live = f"{statement.ledger(_SAME, where=where)} GROUP BY {_STATE} HAVING sum(toInt64(x.sign)) > 0"
    sql = over(
        live,
        f"{_VECTOR}, groupArray(tuple(call_id, sources)) AS candidates",
        f"GROUP BY {_VECTOR} HAVING count() > 1 ORDER BY {_VECTOR}",
    )
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await ask.rows(statement, sql):
        ids = unlinked([tuple(one) for one in row["candidates"]])
        if ids:
            found[row["d0"]].append(
                {"model": row["model"], "output_tokens": row["output_tokens"], "call_ids": ids}
            )
    return found


def unlinked(candidates: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the ids of calls that share no source with another of them.

    A source that reports two equal calls has seen two calls: it is two sources that may see one twice.
    """
    ids = {
        call_id
        for (one, its), (other, others) in combinations(candidates, 2)
        if not set(its) & set(others)
        for call_id in (one, other)
    }
    return sorted(ids)


def _item(session_id: str, counts: Mapping[str, int], doubles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seen_by = {s: sum(n for text, n in counts.items() if s in text.split("+")) for s in _SOURCES}
    return {
        "session_id": session_id,
        "calls": sum(counts.values()),
        "seen_by": seen_by,
        "by_sources": [
            {"sources": text.split("+") if text else [], "calls": n} for text, n in sorted(counts.items())
        ],
        "possible_doubles": list(doubles),
    }
