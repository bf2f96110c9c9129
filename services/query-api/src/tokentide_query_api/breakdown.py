"""`GET /api/v1/usage/breakdown`: who and what the usage is made of, and everything else as `other`."""

from __future__ import annotations

from typing import Any, Final

from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS, SUMS, TOKEN_SUMS
from tokentide_query_api.formats import MEASURES, Answer, Kind, columns
from tokentide_query_api.measures import NO_SUMS, added, key_of, measures, metric_value, ratio
from tokentide_query_api.resolution import parts
from tokentide_query_api.statement import Statement
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
    keys = ", ".join(f"d{i}" for i in range(len(dimensions)))
    column = METRICS[metric]
    # Rows and total come from one reading of the tables, so that the rest is exact while calls arrive.
    sql = statement.sums(from_parts, dimensions, with_totals=True)
    order = f"{_ORDER.get(column, column)} DESC, {keys}"
    found = await ask.table(statement, f"{sql} ORDER BY {order} LIMIT {limit}")
    total = {name: int(found.get("totals", NO_SUMS)[name]) for name in SUMS}
    whole = metric_value(total, column)
    listed = found["data"]
    top = added(listed)
    rest = {name: total[name] - top[name] for name in SUMS}

    def row(sums: dict[str, int]) -> dict[str, Any]:
        return {**measures(sums), "share": ratio(metric_value(sums, column), whole)}

    rows = [{"key": key_of(dimensions, sums), **row(sums)} for sums in listed]
    groups = max(0, found.get("rows_before_limit_at_least", 0) - len(listed))
    other = {"groups": groups, **row(rest)}
    body = {"by": [d.name for d in dimensions], "metric": metric, "rows": rows, "other": other}
    table = [{"is_other": False, **one["key"], **one} for one in rows]
    table.append({"is_other": True, **other})
    answer_columns = (
        *columns(Kind.FLAG, "is_other"), *key_columns(dimensions), *MEASURES, *columns(Kind.RATIO, "share"),
    )  # fmt: skip
    return Answer(body, answer_columns, table)
