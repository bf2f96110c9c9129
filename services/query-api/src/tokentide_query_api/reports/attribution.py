"""`cost-attribution`: hour by hour what each user spent on each kind of token of each model.

Six hours of a large organisation are ten thousands of rows: what calls that share their rates cost by kind is
worked out in the store, as `split` of `typed_costs.py` does it for reports of fewer rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.formats import Kind, columns
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.report import Report, Row
from tokentide_query_api.reports.typed_costs import KINDS, UNITS, alike_in_store
from tokentide_query_api.reports.written_rows import usd_sql, written_rows
from tokentide_query_api.row_bounds import MAX_ROWS
from tokentide_query_api.statement import Statement, over

_BY: Final = (DIMENSIONS["user_id"], DIMENSIONS["model"])
_GROUP: Final = "t, d0, d1"
_SO_FAR: Final = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


async def _cost_attribution(ask: Asking, period: Period) -> Sequence[Row]:
    """Return the kinds of token that a group has any of, and how much it is by then."""
    scope = ask.scope(period.start_ms, period.end_ms)
    starts = bucket_starts(period, "hour")
    seconds = [int(start.timestamp()) for start in starts]
    statement = Statement(scope)
    alike = await alike_in_store(ask, statement, _BY, seconds)
    units = [f"sum(v.{unit}) AS {unit}" for unit in UNITS.values()]
    sums = f"{_GROUP}, sumForEach(v.nano) AS nanos, {', '.join(units)}"
    groups = over(alike, f"{sums}, arraySum(nanos) AS spent", f"AS v GROUP BY {_GROUP}")
    # What was spent before a group is added up by group, within one by kind: of a fifth of the rows.
    before = over(
        groups,
        f"*, sum(spent) OVER (PARTITION BY d0 ORDER BY t, d1 {_SO_FAR}) - spent AS own_before,"
        f" sum(spent) OVER (ORDER BY {_GROUP} {_SO_FAR}) - spent AS before",
        "",
    )
    amounts = ", ".join(f"toNullable({UNITS[kind]})" if kind in UNITS else "NULL" for kind in KINDS)
    places = ", ".join(str(place) for place in range(len(KINDS)))
    each = f"arrayZip([{places}], nanos, [{amounts}], arrayCumSum(nanos))"
    kinds = f"arrayJoin(arrayFilter(k -> k.2 != 0 OR k.3 > 0, {each})) AS kind"
    running = over(
        before,
        f"{_GROUP}, {kinds}, kind.1 AS place, kind.2 AS nano, kind.3 AS amount,"
        " own_before + kind.4 AS own, before + kind.4 AS whole",
        "",
    )
    hours = statement.texts([start.astimezone(period.zone).isoformat() for start in starts])
    hour = f"{hours}[indexOf({statement.bind(seconds, 'Array(UInt32)')}, t)]"
    select = (
        f"{hour} AS hour, d0 AS user_id, {{org:String}} AS organization, d1 AS model,"
        f" {statement.texts(KINDS)}[place + 1] AS token_type, amount, {usd_sql('nano')} AS cost_usd,"
        f" {usd_sql('own')} AS user_running_cost_usd, {usd_sql('whole')} AS running_cost_usd"
    )
    return await written_rows(ask, statement, over(running, select, f"ORDER BY {_GROUP}, place"), MAX_ROWS)


REPORTS: Final = (
    Report(
        "cost-attribution",
        "Every hour of every user by model and kind of token, with running totals",
        (
            *columns(Kind.TIME, "hour"),
            *columns(Kind.TEXT, "user_id", "organization", "model", "token_type"),
            *columns(Kind.COUNT, "amount"),
            *columns(Kind.USD, "cost_usd", "user_running_cost_usd", "running_cost_usd"),
        ),
        _cost_attribution,
        of_people=True,
    ),
)
