"""`GET /api/v1/compare`: two periods side by side, on any breakdown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS, SUMS, Dimension
from tokentide_query_api.formats import MEASURES, Answer, Column, Kind, columns
from tokentide_query_api.measures import NO_SUMS, added, key_of, measures, metric_value
from tokentide_query_api.money.against import HOW, before, year_before
from tokentide_query_api.openapi import array, fields
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period, resolve
from tokentide_query_api.reports.grouped import key_values, sums_by
from tokentide_query_api.shapes import AMOUNT, MAYBE_NUMBER, OBJECT, TEXT, WHOLE, row_of
from tokentide_query_api.timeseries import key_columns

AGAINST: Final = Parameter(
    "against", "The period before, as long, or the same a year earlier.", HOW, "previous"
)
AGAINST_FROM: Final = Parameter(
    "against_from", "Start of the other period, like `from`; instead of `against`."
)
AGAINST_TO: Final = Parameter("against_to", "End of the other period, like `to`.")
PARAMETERS: Final = (
    *p.PERIOD, *p.FILTERS, AGAINST, AGAINST_FROM, AGAINST_TO, p.BY, p.METRIC, p.LIMIT,
)  # fmt: skip
CHANGES: Final = ("appeared", "vanished", "grown", "shrunk", "same")
MOST_GROUPS: Final = 100_000

_MEASURED: Final = fields(**(row_of(MEASURES).properties or {}))  # type: ignore[arg-type]  # schemas, no references
_JUDGED: Final = {
    "current": _MEASURED, "against": _MEASURED, "difference": AMOUNT, "ratio": MAYBE_NUMBER,
}  # fmt: skip
SHAPE: Final = fields(
    **dict.fromkeys(("from", "to", "tz"), TEXT),
    against=fields(**{"from": TEXT, "to": TEXT}),
    by=array(TEXT),
    metric=TEXT,
    rows=array(fields(key=OBJECT, change=TEXT, **_JUDGED)),
    other=fields(groups=WHOLE, **_JUDGED),
    total=fields(**_JUDGED),
)


class _Pair(msgspec.Struct, frozen=True):
    """What one group used in either period."""

    current: Mapping[str, Any]
    against: Mapping[str, Any]

    @property
    def sides(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Both periods."""
        return self.current, self.against

    def values(self, column: str) -> tuple[int, int]:
        """Return the compared measure of both."""
        return metric_value(self.current, column), metric_value(self.against, column)

    def key(self, dimensions: Sequence[Dimension]) -> Mapping[str, Any]:
        """Return the group's key: of the side on which it is."""
        return key_of(dimensions, self.current if "d0" in self.current else self.against)


async def compare(ask: Asking) -> Answer:
    """Answer a comparison: `rows`, those that differ most first, and `other` are together the `total`."""
    period = ask.period()
    other = _other_period(ask, period)
    dimensions = ask.arguments.dimensions(p.BY, least=1)
    metric = ask.arguments.text(p.METRIC)
    column = METRICS[metric]
    limit = ask.arguments.number(p.LIMIT)
    pairs = await _pairs(ask, period, other, dimensions)
    pairs.sort(key=lambda pair: _place(pair, column, dimensions))
    rows = [
        {"key": pair.key(dimensions), "change": change_of(*pair.sides, column), **_judged(pair, column)}
        for pair in pairs[:limit]
    ]  # fmt: skip
    rest = pairs[limit:]
    others = {"groups": len(rest), **_judged(_together(rest), column)}
    body = {
        **_named(period),
        "tz": period.zone.key,
        "against": _named(other),
        "by": [d.name for d in dimensions],
        "metric": metric,
        "rows": rows,
        "other": others,
        "total": _judged(_together(pairs), column),
    }
    table = [_flat(row) for row in rows] + [{**_flat(others), "is_other": True}]
    return Answer(body, _columns(dimensions), table)


def change_of(current: Mapping[str, Any], against: Mapping[str, Any], column: str) -> str:
    """Return in a word what became of a group. Pure."""
    if not against["calls"]:
        return "appeared"
    if not current["calls"]:
        return "vanished"
    now, then = metric_value(current, column), metric_value(against, column)
    return "grown" if now > then else "shrunk" if now < then else "same"


def _other_period(ask: Asking, period: Period) -> Period:
    start, end = ask.arguments.one(AGAINST_FROM), ask.arguments.one(AGAINST_TO)
    if start is None and end is None:
        return year_before(period) if ask.arguments.text(AGAINST) == "year" else before(period)
    if start is None:
        raise InvalidRequest(
            "against_to needs against_from", code="invalid_period", fields={"against_from": "is missing"}
        )
    return resolve(start, end, period.zone, ask.now)


async def _pairs(ask: Asking, period: Period, other: Period, dimensions: Sequence[Dimension]) -> list[_Pair]:
    spans = [ask.scope(one.start_ms, one.end_ms) for one in (period, other)]
    bound = f"LIMIT {MOST_GROUPS + 1}"
    current, against = await asyncio.gather(*(sums_by(ask, span, dimensions, order=bound) for span in spans))
    if max(len(current), len(against)) > MOST_GROUPS:
        raise InvalidRequest(
            f"there are more than {MOST_GROUPS} groups: filter, or shorten the periods",
            code="too_many_points",
        )
    count = len(dimensions)
    now, then = ({key_values(row, count): row for row in rows} for rows in (current, against))
    return [_Pair(now.get(key, NO_SUMS), then.get(key, NO_SUMS)) for key in {**now, **then}]


def _place(pair: _Pair, column: str, dimensions: Sequence[Dimension]) -> tuple[int, int, list[str]]:
    now, then = pair.values(column)
    return -abs(now - then), -max(now, then), [str(value) for value in pair.key(dimensions).values()]


def _together(pairs: Sequence[_Pair]) -> _Pair:
    return _Pair(added(pair.current for pair in pairs), added(pair.against for pair in pairs))


def _judged(pair: _Pair, column: str) -> dict[str, Any]:
    now, then = pair.values(column)
    exact = Decimal(now - then).scaleb(-9) if column.endswith("_nano") else Decimal(now - then)
    return {
        "current": measures(_sums(pair.current)),
        "against": measures(_sums(pair.against)),
        "difference": format(exact.normalize() + 0, "f"),
        "ratio": round(now / then, 6) if then else None,
    }


def _sums(row: Mapping[str, Any]) -> Mapping[str, int]:
    return {name: row[name] for name in SUMS}


def _named(period: Period) -> dict[str, str]:
    def text(instant: datetime) -> str:
        return instant.astimezone(period.zone).isoformat()

    return {"from": text(period.start), "to": text(period.end)}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    other = {f"against_{name}": value for name, value in row["against"].items()}
    rest = {name: value for name, value in row.items() if name not in ("key", "current", "against")}
    return {"is_other": False, **row.get("key", {}), **rest, **row["current"], **other}


def _columns(dimensions: Sequence[Dimension]) -> tuple[Column, ...]:
    return (
        *columns(Kind.FLAG, "is_other"),
        *key_columns(dimensions),
        *columns(Kind.TEXT, "change"),
        *columns(Kind.AMOUNT, "difference"),
        *columns(Kind.RATIO, "ratio"),
        *MEASURES,
        *(Column(f"against_{column.name}", column.kind) for column in MEASURES),
    )
