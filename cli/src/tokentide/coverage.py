"""`tokentide coverage`: who saw the calls, what is missing where, and why, as the query API says it."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.connection import find_connection
from tokentide.coverage_tables import days_table, sessions_table
from tokentide.failures import Exit
from tokentide.options import DataDir, Json, Key, Period, QueryUrl, TimeZone
from tokentide.periods import local_zone, period_parameters
from tokentide.terminal import notes, results, write_json
from tokentide.usage_queries import UsageQueries

By = Literal["session", "day"]


def coverage(
    period: Period = "today",
    /,
    *,
    by: Annotated[By, Parameter(help="One row per what.")] = "session",
    limit: Annotated[
        int, Parameter(help="Sessions to show, the newest first.", validator=Number(gte=1, lte=500))
    ] = 50,
    tz: TimeZone = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Show who saw the calls of a period: log, telemetry, proxy, API; and which calls a source lacks.

    Per session also whether the calls add up to what the client says of itself, and why they may not.
    The time zone is this machine's where it can be told, else the organisation's.
    """
    connection = find_connection("query", url, key, data_dir)
    queries = UsageQueries(connection, period_parameters(period, tz if tz is not None else local_zone()))
    answer = queries.coverage_days() if by == "day" else queries.coverage(limit)
    if as_json:
        write_json(answer)
        return Exit.OK
    results().print(days_table(period, answer) if by == "day" else sessions_table(period, answer))
    if answer.get("next_cursor"):
        notes().print("there are more sessions: raise --limit or shorten the period")
    return Exit.OK
