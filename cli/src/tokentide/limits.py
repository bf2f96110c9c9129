"""`tokentide limits`: how full the limits of providers are, by their own word."""

from __future__ import annotations

from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.limits_table import limits_tables
from tokentide.options import DataDir, Json, Key, QueryUrl
from tokentide.terminal import notes, results, write_json
from tokentide.usage_queries import UsageQueries


def limits(*, as_json: Json = False, url: QueryUrl = None, key: Key = None, data_dir: DataDir = None) -> int:
    """Show how full the limits of your providers' accounts are: 5-hour and weekly windows, requests, tokens.

    Providers tell them with every answer that goes through the proxy; the last column says how long ago.
    """
    answer = UsageQueries(find_connection("query", url, key, data_dir), {}).limits()
    if as_json:
        write_json(answer)
        return Exit.OK
    for table in limits_tables(answer):
        results().print(table)
    if not answer["items"]:
        notes().print("no answer that tells limits has come through the proxy yet")
    return Exit.OK
