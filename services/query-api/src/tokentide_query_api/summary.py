"""`GET /api/v1/usage/summary`: everything about a period in one row."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, SESSION_KEY
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import NO_SUMS, cache_hit_ratio, measures, quantiles
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, over

# What is counted once however often it called, and what stands for nobody.
_DISTINCT: Final = {
    "users": (DIMENSIONS["user_id"], "''"),
    "sessions": (SESSION_KEY, "0"),
    "machines": (DIMENSIONS["machine_id"], "''"),
    "projects": (DIMENSIONS["project"], "''"),
}
_LATENCIES: Final = ("duration_ms", "ttft_ms")
COLUMNS: Final = (
    *columns(Kind.TIME, "from", "to"),
    *columns(Kind.TEXT, "tz"),
    *MEASURES,
    *columns(Kind.RATIO, "cache_hit_ratio"),
    *columns(Kind.COUNT, *_DISTINCT),
    *columns(Kind.RATIO, *(f"{name}_{q}" for name in _LATENCIES for q in ("p50", "p95", "p99"))),
)


async def summary(ask: Asking) -> Answer:
    """Answer a summary."""
    period = ask.period()
    scope = ask.scope(period.start_ms, period.end_ms)
    totals, distinct = await asyncio.gather(_totals(ask, scope), _distinct(ask, scope))
    body: dict[str, Any] = {
        "from": period.start.astimezone(period.zone).isoformat(),
        "to": period.end.astimezone(period.zone).isoformat(),
        "tz": period.zone.key,
        **measures(totals),
        "cache_hit_ratio": cache_hit_ratio(totals),
        **distinct,
        "duration_ms": quantiles(totals.get("duration_histogram", {})),
        "ttft_ms": quantiles(totals.get("ttft_histogram", {})),
    }
    flat = {f"{name}_{q}": value for name in _LATENCIES for q, value in body[name].items()}
    return Answer(body, COLUMNS, [{**body, **flat}])


async def _totals(ask: Asking, scope: Scope) -> dict[str, Any]:
    statement = Statement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), scope.dimensions, latency=True)
    found = await ask.rows(statement, statement.sums(from_parts, latency=True))
    return found[0] if found else dict(NO_SUMS)


async def _distinct(ask: Asking, scope: Scope) -> dict[str, int]:
    """Count who has a live call: an upgrade may have taken a user's only call to somebody else."""
    statement = Statement(scope)
    counts = []
    for name, (what, nobody) in _DISTINCT.items():
        from_parts = parts((scope.start_ms, scope.end_ms), (what, *scope.dimensions))
        groups = statement.sums(from_parts, (what,), names=("calls",))
        counts.append(over(groups, f"'{name}' AS what, count() AS n", f"WHERE d0 != {nobody}"))
    found = {row["what"]: row["n"] for row in await ask.rows(statement, " UNION ALL ".join(counts))}
    return {name: found[name] for name in _DISTINCT}
