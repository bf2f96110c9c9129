"""`tokentide blocks`: the 5-hour blocks of accounts, how fast they are used, and where that leads."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tokentide.blocks_tables import active_table, history_table
from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.options import DataDir, Json, Key, Period, QueryUrl, TimeZone
from tokentide.periods import local_zone, period_parameters
from tokentide.terminal import notes, results, write_json
from tokentide.usage_queries import UsageQueries


def blocks(
    period: Period = "7d",
    /,
    *,
    history: Annotated[
        bool, Parameter(negative="", help="Show every block of the period, newest first.")
    ] = False,
    tz: TimeZone = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Show each account's active 5-hour block: what is used, its pace, where that leads, what is left.

    All machines of an account are one block. A block that begins where the provider said is marked `told`;
    another begins, by estimate, at the full hour of its first call.
    """
    zone = tz if tz is not None else local_zone()
    queries = UsageQueries(find_connection("query", url, key, data_dir), period_parameters(period, zone))
    answer = queries.blocks()
    if as_json:
        write_json(answer)
        return Exit.OK
    active = [account for account in answer["accounts"] if account["active"]]
    for account in active:
        results().print(active_table(account, answer["as_of"]))
    if not active:
        notes().print("no account has an active block: its next call begins one")
    for account in answer["accounts"] if history else ():
        results().print(history_table(account))
    return Exit.OK
