"""`GET /api/v1/coverage`: per session, who saw its calls, what is missing where, and possible doubles."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.coverage_sessions import Held, held
from tokentide_query_api.coverage_statement import SOURCES, CoverageStatement
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.resolution import Range
from tokentide_query_api.session_pages import session_page, stretches_of

_UNKNOWN: Final = Held(None, [])
COLUMNS: Final = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.COUNT, "calls", *(f"seen_by_{source}" for source in SOURCES)),
    *columns(Kind.COUNT, "calls_log_lacks", "calls_telemetry_lacks"),
    *columns(Kind.NESTED, "by_sources", "possible_doubles", "stopped_emitting", "reconciliation"),
)


async def coverage(ask: Asking) -> Answer:
    """Answer a page of coverage, sessions in the order of `/sessions`."""
    page = await session_page(ask)
    if not page.ids:
        return Answer({"items": [], "next_cursor": None}, COLUMNS, [])
    ranges = await stretches_of(ask, page)
    span = (ranges[0][0], ranges[-1][1])
    counts, doubles = await asyncio.gather(_counts(ask, page.ids, span), _doubles(ask, page.ids, span))
    whole = await held(ask, page.ids, {session: len(found) for session, found in doubles.items()})
    items = [_item(s, counts[s], doubles.get(s, []), whole.get(s, _UNKNOWN)) for s in page.ids if s in counts]
    table = [{**item, **{f"seen_by_{s}": n for s, n in item["seen_by"].items()}} for item in items]
    return Answer({"items": items, "next_cursor": page.next_cursor}, COLUMNS, table, page.next_cursor)


async def _counts(ask: Asking, sessions: Sequence[str], span: Range) -> dict[str, dict[str, int]]:
    """Return the number of live calls per session and set of sources, like `cli+otlp`."""
    statement = CoverageStatement(ask.scope(*span))
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in await ask.rows(statement, statement.by_sources(sessions)):
        found[row["d0"]][row["sources_text"]] = row["calls"]
    return found


async def _doubles(ask: Asking, sessions: Sequence[str], span: Range) -> dict[str, list[dict[str, Any]]]:
    """Return calls of one session with the same model and tokens that no common source told apart.

    Such calls may be one call known under two ids that no observation links. They are named, never merged.
    """
    statement = CoverageStatement(ask.scope(*span))
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await ask.rows(statement, statement.same_calls(sessions)):
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


def seen(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return who saw how many of some calls, from their number per set of sources."""
    seen_by = {s: sum(n for text, n in counts.items() if s in text.split("+")) for s in SOURCES}
    calls = sum(counts.values())
    return {
        "calls": calls,
        "seen_by": seen_by,
        "by_sources": [
            {"sources": text.split("+") if text else [], "calls": n} for text, n in sorted(counts.items())
        ],
        "calls_log_lacks": calls - seen_by["cli"],
        "calls_telemetry_lacks": calls - seen_by["otlp"],
    }


def _item(
    session_id: str, counts: Mapping[str, int], doubles: Sequence[Mapping[str, Any]], whole: Held
) -> dict[str, Any]:
    return {
        "session_id": session_id,
        **seen(counts),
        "possible_doubles": list(doubles),
        "stopped_emitting": whole.stopped_emitting,
        "reconciliation": whole.reconciliation,
    }
