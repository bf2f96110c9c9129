"""`tokentide budgets`, `plans` and `compare`: what may be spent, what is paid, and what has changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.account_requests import AccountRequests, segment
from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.money_tables import budgets_table, compare_table, plans_table
from tokentide.options import DataDir, Json, Key, Period, QueryUrl, TimeZone
from tokentide.periods import local_zone, period_parameters
from tokentide.terminal import notes, results, write_json
from tokentide.usage_queries import UsageQueries


def budgets(*, as_json: Json = False, url: QueryUrl = None, key: Key = None, data_dir: DataDir = None) -> int:
    """Show the budgets that you may see: how much is used, what is left, and when they run out."""
    requests = AccountRequests(find_connection("query", url, key, data_dir))
    items: list[dict[str, Any]] = []
    for budget in requests.every("budgets"):
        progress = requests.get(f"budgets/{segment(budget['budget_id'])}/progress")
        items.append({**budget, "progress": progress})
    if as_json:
        write_json(items)
        return Exit.OK
    results().print(budgets_table(items))
    if not items:
        notes().print("there is no budget that you may see")
    return Exit.OK


def plans(*, as_json: Json = False, url: QueryUrl = None, key: Key = None, data_dir: DataDir = None) -> int:
    """Show whose plans are known, and what they cost; `tokentide report plan-savings` says what they save."""
    items = list(AccountRequests(find_connection("query", url, key, data_dir)).every("plans"))
    if as_json:
        write_json(items)
        return Exit.OK
    results().print(plans_table(items))
    if not items:
        notes().print("there is no plan that you may see")
    return Exit.OK


def compare(
    period: Period = "7d",
    /,
    *,
    against: Annotated[
        Literal["previous", "year"], Parameter(help="The period before, or the same a year earlier.")
    ] = "previous",
    by: Annotated[str, Parameter(help="`model`, `project`, `user_id` or another dimension.")] = "model",
    metric: Annotated[
        Literal["cost", "tokens", "calls"], Parameter(help="What the rows are ordered by.")
    ] = "cost",
    limit: Annotated[int, Parameter(help="Rows at most.", validator=Number(gte=1, lte=500))] = 20,
    tz: TimeZone = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Set two periods side by side: what has grown, shrunk, appeared and vanished."""
    zone = tz if tz is not None else local_zone()
    queries = UsageQueries(find_connection("query", url, key, data_dir), period_parameters(period, zone))
    answer = queries.ask("compare", against=against, by=by, metric=metric, limit=str(limit))
    if as_json:
        write_json(answer)
    else:
        results().print(compare_table(answer))
    return Exit.OK
