"""What is known of whole sessions: their calls, who saw them, and what the client says of itself.

Neither the period nor the filters of a question apply: a client's totals know nothing of them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from tokentide_common.events import EARLIEST, MAX_CLOCK_AHEAD
from tokentide_query_api.asking import Asking
from tokentide_query_api.coverage_statement import CoverageStatement
from tokentide_query_api.dimensions import DAY_MS, DIMENSIONS
from tokentide_query_api.measures import added
from tokentide_query_api.periods import ceil_ms
from tokentide_query_api.reconciliation import Against, Calls, ClientTotals, reconciliation
from tokentide_query_api.resolution import Range, parts
from tokentide_query_api.scope import Filter

_SESSION: Final = DIMENSIONS["session_id"]
# So many calls in a row without telemetry are no accident of its last moments.
_SILENT_CALLS: Final = 3
_AGAINST: Final[Mapping[str, Against]] = {
    "client_tokens": "metrics",
    "client_cost_usd": "metrics",
    "session_tokens": "log",
    "session_cost_usd": "log",
}
_Rows = Mapping[str, Any]


class Held(msgspec.Struct, frozen=True):
    """A session as a whole."""

    stopped_emitting: dict[str, Any] | None
    reconciliation: list[Any]


async def held(ask: Asking, sessions: Sequence[str], doubles: Mapping[str, int]) -> dict[str, Held]:
    """Return each session with its client's own totals; `doubles` counts its possible doubles."""
    days = await _days(ask, sessions)
    if not days:
        return {}
    first = min(row["day"] for rows in days.values() for row in rows) * 1000
    last = max(row["day"] for rows in days.values() for row in rows) * 1000
    span = (first - DAY_MS, last + 2 * DAY_MS)  # a client's totals may be a day off its calls
    seen, own = await asyncio.gather(_sightings(ask, sessions, span), _own_totals(ask, sessions, span))
    return {
        session: _held(rows, seen[session], own[session], doubles.get(session, 0), ceil_ms(ask.now))
        for session, rows in days.items()
        if session in seen
    }


def _held(days: Sequence[_Rows], seen: _Rows, own: list[ClientTotals], doubles: int, now_ms: int) -> Held:
    sums = added(days)
    calls = Calls(
        calls=sums["calls"],
        tokens={
            "input": sums["input_tokens"],
            "cache_read": sums["cache_read_tokens"],
            "cache_write": sums["cache_write_5m_tokens"] + sums["cache_write_1h_tokens"],
            "output": sums["output_tokens"],
        },
        cost_nano=sums["cost_nano"],
        reported_cost_nano=sums["reported_cost_nano"],
        unpriced_calls=sums["unpriced_calls"],
        unsplit_calls=seen["unsplit_calls"],
        log_lacks=seen["log_lacks"],
        telemetry_lacks=seen["telemetry_lacks"],
        possible_doubles=doubles,
        last_ms=seen["last_ms"],
    )
    return Held(stopped_emitting(seen), [reconciliation(calls, client, own, now_ms) for client in own])


def stopped_emitting(seen: _Rows) -> dict[str, Any] | None:
    """Return since when telemetry is silent while the log goes on, `None` where it is not."""
    if not seen["last_otlp_ms"] or seen["silent_calls"] < _SILENT_CALLS:
        return None
    since = datetime.fromtimestamp(seen["silent_ms"] / 1000, UTC)
    return {"since": since.isoformat(timespec="milliseconds"), "calls": seen["silent_calls"]}


def client_totals(said: Sequence[_Rows]) -> list[ClientTotals]:
    """Return what one client says of one session, its metrics first, from rows of metric, kind and value."""
    tokens: dict[Against, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    costs: dict[Against, int] = defaultdict(int)
    forked_from = ""
    for row in said:
        against, value = _AGAINST[row["metric"]], Decimal(row["value"])
        forked_from = max(forked_from, row["forked_from"]) if against == "log" else forked_from
        if row["metric"].endswith("_cost_usd"):
            costs[against] += int(value.scaleb(9))
        else:
            for kind, share in kinds_of(row["kind"], int(value)):
                tokens[against][kind] += share
    return [
        ClientTotals(
            against,
            dict(tokens[against]) if against in tokens else None,
            costs.get(against),
            forked_from if against == "log" else "",
        )
        for against in ("metrics", "log")
        if against in tokens or against in costs
    ]


def kinds_of(kind: str, value: int) -> list[tuple[str, int]]:
    """Return the disjoint kinds of a client's kind: some count cached input as a part of the prompt."""
    if kind == "prompt":
        return [("input", value)]
    if kind == "prompt_cached":
        return [("input", -value), ("cache_read", value)]
    return [(kind, value)]


async def _days(ask: Asking, sessions: Sequence[str]) -> dict[str, list[_Rows]]:
    """Return the sums of each session per UTC day, from the rollup of sessions, whenever that was."""
    end_ms = ceil_ms(ask.now + MAX_CLOCK_AHEAD) // DAY_MS * DAY_MS + DAY_MS
    whole: Range = (ceil_ms(EARLIEST), end_ms)
    scope = ask.everything(*whole).narrowed(Filter(_SESSION, tuple(sessions)))
    statement = CoverageStatement(scope)
    sql = statement.sums(parts(whole, scope.dimensions), (_SESSION,), day=True)
    found: dict[str, list[_Rows]] = defaultdict(list)
    for row in await ask.rows(statement, sql):
        found[row["d0"]].append(row)
    return found


async def _sightings(ask: Asking, sessions: Sequence[str], span: Range) -> dict[str, _Rows]:
    statement = CoverageStatement(ask.everything(*span))
    return {row["d0"]: row for row in await ask.rows(statement, statement.sightings(sessions))}


async def _own_totals(ask: Asking, sessions: Sequence[str], span: Range) -> dict[str, list[ClientTotals]]:
    statement = CoverageStatement(ask.everything(*span))
    said: dict[str, list[_Rows]] = defaultdict(list)
    for row in await ask.rows(statement, statement.own_totals(sessions)):
        said[row["d0"]].append(row)
    found: dict[str, list[ClientTotals]] = defaultdict(list)
    found.update((session, client_totals(rows)) for session, rows in said.items())
    return found
