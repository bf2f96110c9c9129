"""`tokentide report`: the server's named reports, as tables, JSON or CSV."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.connection import find_connection
from tokentide.failures import Exit, Failure
from tokentide.options import DataDir, Json, Key, QueryUrl, TimeZone
from tokentide.periods import local_zone
from tokentide.report_table import report_table, reports_table
from tokentide.terminal import notes, results, write_content, write_json
from tokentide.usage_queries import UsageQueries

_PAIR: Final = "--where takes NAME=VALUE"


def report(
    name: Annotated[str, Parameter(help="Which report; without it all are listed.")] = "",
    /,
    *,
    start: Annotated[
        str, Parameter(name="--from", help="First moment: a day, `month`, `30d`, or RFC 3339.")
    ] = "",
    end: Annotated[str, Parameter(name="--to", help="Last day, or the moment of the end in RFC 3339.")] = "",
    tz: TimeZone = None,
    limit: Annotated[
        int | None, Parameter(help="Rows at most, where it ranks.", validator=Number(gte=1, lte=500))
    ] = None,
    where: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="`model=opus` and other filters, or what the report takes, like `day_usd=20`; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
    wide: Annotated[
        bool, Parameter(negative="", help="Show all columns, with ids and times in full.")
    ] = False,
    as_csv: Annotated[bool, Parameter(name="--csv", negative="", help="Write the rows as CSV.")] = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Show one of the server's named reports; without a name, which there are.

    The table has the columns that matter most; `--wide`, `--json` and `--csv` have them all.
    """
    queries = UsageQueries(find_connection("query", url, key, data_dir), {})
    catalogue = queries.reports()
    if not name:
        _show_list(catalogue, as_json=as_json)
        return Exit.OK
    known = _known(catalogue, name)
    zone = tz if tz is not None else local_zone()
    limits = "" if limit is None else str(limit)
    fixed = {"from": start, "to": end, "tz": zone, "limit": limits}
    asked = [*((word, value) for word, value in fixed.items() if value), *map(_pair, where or ())]
    if as_csv:
        write_content(queries.report_as_csv(name, asked))
        return Exit.OK
    answer = queries.report(name, asked)
    if as_json:
        write_json(answer)
        return Exit.OK
    results().print(report_table(known, answer, wide=wide))
    if not answer["rows"]:
        notes().print("no calls in this period that the report tells of")
    return Exit.OK


def _show_list(catalogue: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(catalogue)
    else:
        results().print(reports_table(catalogue))


def _known(catalogue: dict[str, Any], name: str) -> dict[str, Any]:
    reports = {item["name"]: item for item in catalogue["items"]}
    if name in reports:
        found: dict[str, Any] = reports[name]
        return found
    near = get_close_matches(name, reports, n=3, cutoff=0.4)
    raise Failure(
        f"the server has no report {name!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else "`tokentide report` lists all",
        code=Exit.USAGE,
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Failure(f"{_PAIR}, and {text!r} is no such pair", code=Exit.USAGE)
    return name, value
