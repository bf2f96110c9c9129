"""`GET /api/v1/usage/summary`: everything about a period in one row."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.distinct import DISTINCT, sessions, users_machines_projects
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import NO_SUMS, cache_hit_ratio, measures, quantiles
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement

_LATENCIES: Final = ("duration_ms", "ttft_ms")
COLUMNS: Final = (
    *columns(Kind.TIME, "from", "to"),
    *columns(Kind.TEXT, "tz"),
    *MEASURES,
    *columns(Kind.RATIO, "cache_hit_ratio"),
    *columns(Kind.COUNT, *DISTINCT),
    *columns(Kind.RATIO, *(f"{name}_{q}" for name in _LATENCIES for q in ("p50", "p95", "p99"))),
)


async def summary(ask: Asking) -> Answer:
    """Answer a summary."""
    period = ask.period()
    scope = ask.scope(period.start_ms, period.end_ms)
    # Three at once share two cores, and that of sessions, which takes as long as both others, comes last.
    counted, (totals, others) = await asyncio.gather(sessions(ask, scope), _all_but_sessions(ask, scope))
    counts = {**counted, **others}
    body: dict[str, Any] = {
        "from": period.start.astimezone(period.zone).isoformat(),
        "to": period.end.astimezone(period.zone).isoformat(),
        "tz": period.zone.key,
        **measures(totals),
        "cache_hit_ratio": cache_hit_ratio(totals),
        **{name: counts[name] for name in DISTINCT},
        "duration_ms": quantiles(totals.get("duration_histogram", {})),
        "ttft_ms": quantiles(totals.get("ttft_histogram", {})),
    }
    flat = {f"{name}_{q}": value for name in _LATENCIES for q, value in body[name].items()}
    return Answer(body, COLUMNS, [{**body, **flat}])


async def _all_but_sessions(ask: Asking, scope: Scope) -> tuple[dict[str, Any], dict[str, int]]:
    return await _totals(ask, scope), await users_machines_projects(ask, scope)


async def _totals(ask: Asking, scope: Scope) -> dict[str, Any]:
    statement = Statement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), scope.dimensions, latency=True)
    found = await ask.rows(statement, statement.sums(from_parts, latency=True))
    return found[0] if found else dict(NO_SUMS)
