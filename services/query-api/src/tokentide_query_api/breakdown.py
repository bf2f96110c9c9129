"""`GET /api/v1/usage/breakdown`: who and what the usage is made of, and everything else as `other`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS, SUMS, TOKEN_SUMS, Dimension
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import added, key_of, measures, metric_value, ratio
from tokentide_query_api.resolution import parts
from tokentide_query_api.statement import Statement, over
from tokentide_query_api.timeseries import key_columns

_ORDER: Final = {"total_tokens": TOKEN_SUMS}


async def breakdown(ask: Asking) -> Answer:
    """Answer a breakdown: `rows` and `other` together are exactly the summary of the period."""
    period = ask.period()
    dimensions = ask.arguments.dimensions(p.BY, least=1)
    metric = ask.arguments.text(p.METRIC)
    limit = ask.arguments.number(p.LIMIT)
    scope = ask.scope(period.start_ms, period.end_ms)
    statement = Statement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), (*dimensions, *scope.dimensions))
    column = METRICS[metric]
    groups = statement.sums(from_parts, dimensions)
    (whole,) = await ask.rows(statement, top_and_whole(groups, dimensions, column, limit))
    listed = [_named(entry, dimensions) for entry in whole["top"]]
    shown = added(listed)
    rest = {name: whole[name] - shown[name] for name in SUMS}
    total = metric_value(whole, column)

    def row(sums: dict[str, int]) -> dict[str, Any]:
        return {**measures(sums), "share": ratio(metric_value(sums, column), total)}

    rows = [{"key": key_of(dimensions, sums), **row(sums)} for sums in listed]
    other = {"groups": whole["members"] - len(listed), **row(rest)}
    body = {"by": [d.name for d in dimensions], "metric": metric, "rows": rows, "other": other}
    table = [{"is_other": False, **one["key"], **one} for one in rows]
    table.append({"is_other": True, **other})
    answer_columns = (
        *columns(Kind.FLAG, "is_other"), *key_columns(dimensions), *MEASURES, *columns(Kind.RATIO, "share"),
    )  # fmt: skip
    return Answer(body, answer_columns, table)


def top_and_whole(groups: str, dimensions: Sequence[Dimension], column: str, limit: int) -> str:
    """Return a SELECT of one row: the sums of all groups, how many they are, and in `top` the first of them.

    One reading of the tables gives both, so that the rest is exact while calls arrive. Only the first are
    sorted: numbering ten thousand groups takes as long as adding them up.
    """
    order = " + ".join(f"z.{name}" for name in _ORDER.get(column, (column,)))
    fields = ", ".join(f"z.{name}" for name in _fields(dimensions))
    top = f"groupArraySorted({limit})((-({order}), {fields})) AS top"
    sums = [f"sum(z.{name}) AS {name}" for name in SUMS]
    return over(groups, ", ".join([*sums, "count() AS members", top]), "AS z")


def _named(entry: Sequence[Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    return dict(zip(_fields(dimensions), entry[1:], strict=True))


def _fields(dimensions: Sequence[Dimension]) -> tuple[str, ...]:
    return (*(f"d{i}" for i in range(len(dimensions))), *SUMS)
