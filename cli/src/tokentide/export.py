"""`tokentide export`: calls as Parquet files by day or hour, brought up to date by each run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from tokentide.account_requests import AccountRequests
from tokentide.connection import Connection, find_connection
from tokentide.failures import Exit, Failure
from tokentide.lake import Contents, Lake, partitions_of
from tokentide.lake_folder import Folder, Storage
from tokentide.options import DataDir, Json, Key, QueryUrl
from tokentide.periods import period_parameters
from tokentide.terminal import notes, write_json
from tokentide.usage_queries import UsageQueries

_SEE_ALL: Final = ("owner", "admin")


def export(
    period: Annotated[
        str, Parameter(help="Days in UTC: `30d`, `month`, or a range like `2026-10-01..2026-10-31`.")
    ] = "30d",
    /,
    *,
    to: Annotated[str, Parameter(help="Folder of the files, or `s3://bucket/prefix`.")],
    partition: Annotated[Literal["day", "hour"], Parameter(help="One file for each.")] = "day",
    again: Annotated[
        bool, Parameter(negative="", help="Write every file anew, also where no call has changed.")
    ] = False,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Write calls as Parquet files under `year=/month=/day=/` that DuckDB, Athena and others read.

    Run it again to bring the folder up to date: a file is written when anything of its calls has changed,
    and put in place in one step. The same calls are the same bytes.
    """
    connection = find_connection("query", url, key, data_dir)
    queries = UsageQueries(connection, period_parameters(period, "UTC"))
    lake = Lake(_storage(to), _contents(connection, partition))
    written = removed = 0
    found = partitions_of(queries.partitions(partition), partition)
    for part in found:
        if not part.calls:
            removed += lake.remove(part)
        elif again or not lake.has(part):
            with lake.writing(part) as out:
                queries.export_calls(part.start, part.end, out)
            lake.keep(part)
            written += 1
    told = {"written": written, "removed": removed, "unchanged": sum(bool(p.calls) for p in found) - written}
    if as_json:
        write_json(told)
    else:
        notes().print(f"{written} files written, {removed} removed, {told['unchanged']} unchanged in {to}")
    return Exit.OK


def _storage(to: str) -> Storage:
    """Return the place of the files. Raises `Failure` for one that cannot be written to."""
    if "://" not in to:
        return Folder(Path(to))
    if not to.startswith("s3://"):
        raise Failure(f"{to} is neither a folder nor s3://bucket/prefix", code=Exit.USAGE)
    if find_spec("pyarrow") is None:
        raise Failure(
            "what writes to S3 is not installed",
            hint="install it with the extra `s3`, for example `uv tool install './cli[s3]'`",
        )
    from tokentide.lake_bucket import Bucket  # noqa: PLC0415 -- of an extra, and slow to import

    return Bucket(to)


def _contents(connection: Connection, partition: str) -> Contents:
    """Return what this key exports: an admin's all of the organisation, a member's their own calls."""
    me = AccountRequests(connection).get("auth/me")
    mine = "" if me["role"] in _SEE_ALL or me["user"] is None else me["user"]["id"]
    return Contents(partition=partition, organization_id=me["organisation"]["id"], user_id=mine)
