"""`tokentide stats`: usage and cost as the query API counts them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.options import DataDir, Json, Key, Period, QueryUrl, TimeZone
from tokentide.periods import local_zone, period_parameters
from tokentide.stats_tables import breakdown_rows, day_rows, measures_table
from tokentide.terminal import notes, results, write_json
from tokentide.usage_queries import UsageQueries

By = Literal["model", "project", "session", "machine", "user", "client", "source", "day"]

_DIMENSION: dict[str, str] = {"session": "session_id", "machine": "machine_id", "user": "user_id"}


def stats(
    period: Period = "today",
    /,
    *,
    by: Annotated[By | None, Parameter(help="One table only: usage per what.")] = None,
    tz: TimeZone = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Show calls, tokens, cache hit rate and cost of a period: per model and day, or `--by` something.

    The time zone is this machine's where it can be told, else the organisation's.
    """
    connection = find_connection("query", url, key, data_dir)
    zone = tz if tz is not None else local_zone()
    answers = _ask(UsageQueries(connection, period_parameters(period, zone)), by)
    if as_json:
        write_json(answers)
        return Exit.OK
    for table in _tables(period, by, answers):
        results().print(table)
    if answers["summary"].get("unpriced_calls"):
        notes().print(f"* {answers['summary']['unpriced_calls']} calls have no known price and count as $0")
    return Exit.OK


def _ask(queries: UsageQueries, by: By | None) -> dict[str, Any]:
    """Return the summary and what the tables need, each as the server said it."""
    answers = {"summary": queries.summary()}
    if by != "day":
        answers["breakdown"] = queries.breakdown(_DIMENSION.get(by or "", by or "model"))
    if by in (None, "day"):
        answers["days"] = queries.days()
    return answers


def _tables(period: str, by: By | None, answers: dict[str, Any]) -> list[Table]:
    total = [("total", answers["summary"])]
    tables = []
    if "breakdown" in answers:
        heading = by or "model"
        tables.append(measures_table(period, heading, breakdown_rows(answers["breakdown"]) + total))
    days = day_rows(answers.get("days", {}))
    if by == "day" or len(days) > 1:
        tables.append(measures_table("per day" if by is None else period, "day", days + total))
    return tables
