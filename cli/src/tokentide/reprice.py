"""`tokentide admin reprice`: history by the prices of today, told first, then done by the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.account_requests import AccountRequests, Answer
from tokentide.connection import find_connection
from tokentide.failures import Exit, Failure
from tokentide.options import DataDir, Json, Key, QueryUrl, TimeZone
from tokentide.periods import period_parameters
from tokentide.reprice_table import added_up, reprice_table
from tokentide.terminal import notes, results, write_json

_LOOK_AGAIN_S: Final = 1.0
_TIMEOUT_S: Final = 60.0


def reprice(
    period: Annotated[
        str, Parameter(help="Calls of when: `all`, `30d`, `month`, or a range like `2026-10-01..2026-10-31`.")
    ] = "all",
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Only show what would change.")] = False,
    model: Annotated[str, Parameter(help="Calls of this model alone.")] = "",
    wait: Annotated[
        int, Parameter(help="Seconds until all must be priced anew.", validator=Number(gte=0, lte=3600))
    ] = 60,
    tz: TimeZone = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Price your organisation's counted calls by the prices that the server has today.

    It can be broken off and run again at any time: calls that have the price of today are left as they are.
    Each step is in the audit log. Needs an administrator's key or login.
    """
    connection = find_connection("query", url, key, data_dir)
    requests = AccountRequests(connection, timeout_s=_TIMEOUT_S)
    asked = period_parameters(period, tz or "UTC") | ({"model": model} if model else {})
    pages, changed_at = [], []
    for cursor, page in _pages(requests, {**asked, "dry_run": dry_run}):
        pages.append(page)
        if page["changed"]:
            changed_at.append(cursor)
    told = added_up(pages)
    if as_json:
        write_json(told)
    else:
        results().print(reprice_table(told))
    if changed_at and not dry_run:
        notes().print(f"{told['changed']:,} calls are being priced anew by {told['price_version']}")
        _await_all(requests, asked, changed_at, wait)
    return Exit.OK


def _pages(requests: AccountRequests, asked: Answer) -> Iterator[tuple[str | None, Answer]]:
    """Yield each page with its cursor."""
    cursor: str | None = None
    while True:
        page = _page(requests, asked, cursor)
        yield cursor, page
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _page(requests: AccountRequests, asked: Answer, cursor: str | None) -> Answer:
    return requests.post("repricing", {**asked, **({"cursor": cursor} if cursor else {})})


def _await_all(
    requests: AccountRequests,
    asked: dict[str, Any],
    cursors: Sequence[str | None],
    wait_s: int,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look again at the pages that have changed until all their calls have the price of today."""
    end = time.monotonic() + wait_s
    for cursor in cursors:
        while left := _page(requests, {**asked, "dry_run": True}, cursor)["changed"]:
            if time.monotonic() >= end:
                raise Failure(
                    f"{left:,} calls or more are not priced anew yet",
                    hint="run it again later; if that does not help, let every aggregator start with the same"
                    " TOKENTIDE_PRICE_OVERRIDES, and the same version of Tokentide, as the query API",
                    code=Exit.TRY_LATER,
                )
            sleep(_LOOK_AGAIN_S)  # the server answers at once; the work is elsewhere
