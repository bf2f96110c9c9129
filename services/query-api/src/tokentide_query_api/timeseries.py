"""`GET /api/v1/usage/timeseries`: measures per calendar bucket and group, empty buckets as zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokentide_common.errors import InvalidRequest
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import Dimension
from tokentide_query_api.dimensions import Kind as ValueKind
from tokentide_query_api.formats import MEASURES, Answer, Column, Kind, columns
from tokentide_query_api.measures import NO_SUMS, added, key_of, measures, total_tokens
from tokentide_query_api.resolution import parts
from tokentide_query_api.statement import Statement

MAX_POINTS: Final = 100_000
_KINDS: Final = {ValueKind.TEXT: Kind.TEXT, ValueKind.NUMBER: Kind.COUNT, ValueKind.FLAG: Kind.FLAG}


async def timeseries(ask: Asking) -> Answer:
    """Answer a time series: the sum of all points is the summary of the period."""
    period = ask.period()
    bucket = ask.arguments.text(p.BUCKET)
    dimensions = ask.arguments.dimensions(p.GROUP_BY, least=0)
    starts = bucket_starts(period, bucket)
    scope = ask.scope(period.start_ms, period.end_ms)
    statement = Statement(scope)
    seconds = [int(start.timestamp()) for start in starts]
    # The first bucket may begin before the period and the last may end after it: only the period counts.
    edges_ms = [scope.start_ms, *(1000 * s for s in seconds[1:]), scope.end_ms]
    from_parts = parts(edges_ms, (*dimensions, *scope.dimensions))
    sql = statement.sums(from_parts, dimensions, edges_s=seconds)
    found = await ask.rows(statement, f"{sql} LIMIT {MAX_POINTS + 1}")
    labels = [start.astimezone(period.zone).isoformat() for start in starts]
    series: list[dict[str, Any]] = []
    for key, by_start in grouped(found, dimensions, len(starts)):
        points = [
            {"start": label, **measures(by_start.get(second, NO_SUMS))}
            for label, second in zip(labels, seconds, strict=True)
        ]
        series.append({"key": key, "points": points})
    body = {
        "bucket": bucket,
        "tz": period.zone.key,
        "from": period.start.astimezone(period.zone).isoformat(),
        "to": period.end.astimezone(period.zone).isoformat(),
        "group_by": [d.name for d in dimensions],
        "series": series,
    }
    table = [{**one["key"], **point} for one in series for point in one["points"]]
    return Answer(body, (*key_columns(dimensions), *columns(Kind.TIME, "start"), *MEASURES), table)


def grouped(
    found: Sequence[Mapping[str, Any]], dimensions: Sequence[Dimension], buckets: int
) -> list[tuple[dict[str, Any], dict[int, Mapping[str, int]]]]:
    """Return each group's key and its sums by start, the most expensive group first.

    Without dimensions there is one group, even of nothing. Raises `InvalidRequest` for too many points.
    """
    groups: dict[tuple[Any, ...], dict[int, Mapping[str, int]]] = {} if dimensions else {(): {}}
    for row in found:
        groups.setdefault(tuple(row[f"d{i}"] for i in range(len(dimensions))), {})[row["t"]] = row
    if len(found) > MAX_POINTS or len(groups) * buckets > MAX_POINTS:
        raise InvalidRequest(
            f"the answer has more than {MAX_POINTS} points: filter, shorten the period or widen the bucket",
            code="too_many_points",
        )
    totals = {key: added(by_start.values()) for key, by_start in groups.items()}
    order = sorted(groups, key=lambda key: (-totals[key]["cost_nano"], -total_tokens(totals[key]), key))
    return [(key_of(dimensions, {f"d{i}": v for i, v in enumerate(key)}), groups[key]) for key in order]


def key_columns(dimensions: Sequence[Dimension]) -> tuple[Column, ...]:
    """Return the columns of a group's key."""
    return tuple(Column(d.name, _KINDS[d.kind]) for d in dimensions)
