"""`GET /api/v1/coverage/days`: per calendar day, who saw the calls; and sessions that only metrics know."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.coverage import seen
from tokentide_query_api.coverage_statement import SOURCES, CoverageStatement
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.scope import Scope

COLUMNS: Final = (
    *columns(Kind.TIME, "start"),
    *columns(Kind.COUNT, "calls", *(f"seen_by_{source}" for source in SOURCES)),
    *columns(Kind.COUNT, "calls_log_lacks", "calls_telemetry_lacks", "metrics_only_sessions"),
    *columns(Kind.NESTED, "by_sources"),
)


async def coverage_days(ask: Asking) -> Answer:
    """Answer the days of a period, each with its calls by set of sources, and their total."""
    period = ask.period()
    starts = bucket_starts(period, "day")
    seconds = [int(start.timestamp()) for start in starts]
    scope = ask.scope(period.start_ms, period.end_ms)
    counts, unseen = await asyncio.gather(_counts(ask, scope, seconds), _metrics_only(ask, scope, seconds))
    days = [
        {
            "start": start.astimezone(period.zone).isoformat(),
            **seen(counts.get(second, {})),
            "metrics_only_sessions": unseen.get(second, 0),
        }
        for start, second in zip(starts, seconds, strict=True)
    ]
    everything: Counter[str] = Counter()
    for of_day in counts.values():
        everything.update(of_day)
    body = {
        "from": period.start.astimezone(period.zone).isoformat(),
        "to": period.end.astimezone(period.zone).isoformat(),
        "tz": period.zone.key,
        "days": days,
        "total": seen(everything),
    }
    table = [{**day, **{f"seen_by_{s}": n for s, n in day["seen_by"].items()}} for day in days]
    return Answer(body, COLUMNS, table)


async def _counts(ask: Asking, scope: Scope, seconds: Sequence[int]) -> Mapping[int, Mapping[str, int]]:
    statement = CoverageStatement(scope)
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for row in await ask.rows(statement, statement.by_start_and_sources(seconds)):
        found[row["t"]][row["sources_text"]] = row["calls"]
    return found


async def _metrics_only(ask: Asking, scope: Scope, seconds: Sequence[int]) -> Mapping[int, int]:
    # Filters are on dimensions of calls, which these sessions do not have.
    statement = CoverageStatement(ask.everything(scope.start_ms, scope.end_ms))
    found = await ask.rows(statement, statement.metrics_only(seconds))
    return {row["t"]: row["sessions"] for row in found}
