"""`activity-pattern`: when people work with their tools, by hour of the day and weekday."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.formats import MEASURES, Kind, columns
from tokentide_query_api.measures import NO_SUMS, added, measures
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import sums_by
from tokentide_query_api.reports.report import Report, Row

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


async def _pattern(ask: Asking, period: Period) -> Sequence[Row]:
    """Return 168 cells; an hour that a change of clocks repeats falls into one cell twice."""
    scope = ask.scope(period.start_ms, period.end_ms)
    seconds = [int(start.timestamp()) for start in bucket_starts(period, "hour")]
    edges = [scope.start_ms, *(1000 * s for s in seconds[1:]), scope.end_ms]
    cells: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in await sums_by(ask, scope, (), edges_ms=edges, edges_s=seconds):
        local = datetime.fromtimestamp(row["t"], UTC).astimezone(period.zone)
        cells[local.weekday(), local.hour].append(row)
    return [
        {
            "weekday": _WEEKDAYS[weekday],
            "weekday_number": weekday + 1,
            "hour": hour,
            **measures(added(cells[weekday, hour]) if cells[weekday, hour] else NO_SUMS),
        }
        for weekday in range(7)
        for hour in range(24)
    ]


REPORTS: Final = (
    Report(
        "activity-pattern",
        "Usage by hour of the day and weekday, in the zone `tz`",
        (
            *columns(Kind.TEXT, "weekday"),
            *columns(Kind.COUNT, "weekday_number", "hour"),
            *MEASURES,
        ),
        _pattern,
    ),
)
