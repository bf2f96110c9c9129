"""`GET /api/v1/usage/breakdown`: who and what the usage is made of, and everything else as `other`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS, SUMS, TOKEN_SUMS, Dimension
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import NO_SUMS, added, key_of, measures, metric_value, ratio
from tokentide_query_api.resolution import parts
from tokentide_query_api.statement import Statement, over
from tokentide_query_api.timeseries import key_columns

_ORDER: Final = {"total_tokens": " + ".join(TOKEN_SUMS)}


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
    found = await ask.rows(
        statement, _top_and_rest(statement.sums(from_parts, dimensions), dimensions, column, limit)
    )
    listed = [sums for sums in found if sums["slot"] <= limit]
    rest = next((sums for sums in found if sums["slot"] > limit), {**NO_SUMS, "members": 0})
    whole = metric_value(added(found), column)

    def row(sums: dict[str, int]) -> dict[str, Any]:
        return {**measures(sums), "share": ratio(metric_value(sums, column), whole)}

    rows = [{"key": key_of(dimensions, sums), **row(sums)} for sums in listed]
    other = {"groups": rest["members"], **row(rest)}
    body = {"by": [d.name for d in dimensions], "metric": metric, "rows": rows, "other": other}
    table = [{"is_other": False, **one["key"], **one} for one in rows]
    table.append({"is_other": True, **other})
    answer_columns = (
        *columns(Kind.FLAG, "is_other"), *key_columns(dimensions), *MEASURES, *columns(Kind.RATIO, "share"),
    )  # fmt: skip
    return Answer(body, answer_columns, table)


def _top_and_rest(groups: str, dimensions: Sequence[Dimension], column: str, limit: int) -> str:
    """Return a SELECT of the first groups and, in a last row, of all others together.

    One reading of the tables gives both, so that the rest is exact while calls arrive.
    """
    keys = [f"d{i}" for i in range(len(dimensions))]
    order = ", ".join([f"{_ORDER.get(column, column)} DESC", *keys])
    placed = over(groups, f"*, row_number() OVER (ORDER BY {order}) AS place", "")
    slot = f"least(z.place, {limit + 1}) AS slot"
    shown = [f"if(z.place <= {limit}, z.{key}, '') AS {key}" for key in keys]
    sums = [f"sum(z.{name}) AS {name}" for name in SUMS]
    select = ", ".join([slot, *shown, *sums, "count() AS members"])
    return over(placed, select, f"AS z GROUP BY {', '.join(['slot', *keys])} ORDER BY slot")
