"""One value a day for each group: what pace and anomalies are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import Dimension
from tokentide_query_api.measures import metric_value
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import Key, Reader, key_values, sums_by
from tokentide_query_api.scope import Scope


class Daily(msgspec.Struct, frozen=True):
    """The value of each local day of a period, by group; a day that is left out had none."""

    days: tuple[date, ...]
    values: Mapping[Key, Mapping[date, int]]


async def daily(ask: Reader, scope: Scope, period: Period, by: Sequence[Dimension], column: str) -> Daily:
    """Return the values of a measure by local day of a period, which is what `scope` spans."""
    starts = [int(start.timestamp()) for start in bucket_starts(period, "day")]
    days = {start: _day(start, period) for start in starts}
    edges = [scope.start_ms, *(1000 * start for start in starts[1:]), scope.end_ms]
    values: dict[Key, dict[date, int]] = {}
    for row in await sums_by(ask, scope, by, edges_ms=edges, edges_s=starts):
        values.setdefault(key_values(row, len(by)), {})[days[row["t"]]] = metric_value(row, column)
    return Daily(tuple(days.values()), values)


def at_most_one(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Return them. Raises `InvalidRequest` for two."""
    if len(dimensions) > 1:
        raise InvalidRequest(
            "this report is by one dimension", code="invalid_parameter", fields={"by": "one dimension"}
        )
    return tuple(dimensions)


def amount(value: float, column: str) -> str:
    """Return a value of a measure as a text: dollars to the nano-dollar, counts to a thousandth. Pure."""
    exact = (
        Decimal(round(value)).scaleb(-9)
        if column.endswith("_nano")
        else Decimal(round(value * 1000)).scaleb(-3)
    )
    return format(exact.normalize() + 0, "f")


def key_row(by: Sequence[Dimension], key: Sequence[str]) -> dict[str, Any]:
    """Return the key of a group as fields of a row."""
    return {"by": by[0].name if by else "", "key": str(by[0].value(key[0])) if by else ""}


def _day(start_s: int, period: Period) -> date:
    return datetime.fromtimestamp(start_s, UTC).astimezone(period.zone).date()
