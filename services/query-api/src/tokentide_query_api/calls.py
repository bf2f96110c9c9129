"""`GET /api/v1/calls` and `/calls/{call_id}`: the request log, newest first, and one call in full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from tokentide_common.errors import NotFound
from tokentide_common.identity import call_hash
from tokentide_common.merge import UNSEEN
from tokentide_common.store import rows
from tokentide_query_api.asking import Asking, Page
from tokentide_query_api.dimensions import DAY_MS
from tokentide_query_api.formats import Answer, Column, Kind
from tokentide_query_api.periods import Period
from tokentide_query_api.record import COLUMNS, live_rows, observations_of, record_of, select_list
from tokentide_query_api.statement import Statement

Row = Mapping[str, Any]
# Links lead down an order of ids, so that they have an end; so many ids of one call nobody states.
_MOST_IDS: Final = 16
_PLACE: Final = """
SELECT argMax(occurred_ms, version) AS at_ms FROM seen
WHERE call_hash = toFixedString(unhex({hash:String}), 16) GROUP BY call_hash
"""


async def calls(ask: Asking) -> Answer:
    """Answer a page of the request log."""
    page = ask.page()
    found = await _newest(ask, page)
    listed = found[: page.limit]
    more = len(found) > page.limit
    cursor = page.next_cursor(listed[-1]["at_ms"], listed[-1]["call_id"]) if more else None
    items = [record_of(row) for row in listed]
    return Answer({"items": items, "next_cursor": cursor}, COLUMNS, items, cursor)


async def call(ask: Asking, call_id: str) -> Answer:
    """Answer one call of the caller's organisation, by any id that a source knows it by.

    Where two ids name one call, it is the record that counts, whose `call_id` says which that is.
    Raises `NotFound`, also for a call of another organisation or one that the caller may not see.
    """
    row = await _live(ask, call_id)
    for _ in range(_MOST_IDS):
        if row is None or row["same_as"] in ("", UNSEEN):
            break
        row = await _live(ask, row["same_as"])
    if row is None or row["same_as"]:
        raise NotFound("there is no such call in your organisation")
    record = {**record_of(row), "observations": observations_of(row)}
    return Answer(record, (*COLUMNS, Column("observations", Kind.NESTED)), [record])


async def call_slices(ask: Asking, period: Period, size: int) -> AsyncIterator[list[Row]]:
    """Yield every live row of a period, newest first, in slices of about `size`: one of them is in memory."""
    before = (period.end_ms, "")
    while True:
        raw = await _window(ask, period.start_ms, before, size)
        whole = raw if len(raw) < size else _without_last_call(raw)
        if whole:
            before = (whole[-1]["at_ms"], whole[-1]["call_id"])
            yield live_rows(whole)
        if len(raw) < size:
            return
        if not whole:
            size *= 2  # a call of many states filled the window


async def _live(ask: Asking, call_id: str) -> Row | None:
    """Return the row that stands for an id."""
    # The organisation is a part of what is hashed.
    place = await rows(ask.store, _PLACE, {"hash": call_hash(ask.org_id, call_id).hex()})
    if not place:
        return None
    at_ms = place[0]["at_ms"]
    live = await _at(ask, call_id, at_ms, at_ms + 1)
    if not live:
        # `seen` is written last: for a moment it still names the place that an upgrade has just left.
        # A call only ever moves to an earlier time.
        live = await _at(ask, call_id, at_ms - DAY_MS, at_ms)
    return live[-1] if live else None


async def _at(ask: Asking, call_id: str, start_ms: int, end_ms: int) -> list[Row]:
    statement = Statement(ask.everything(start_ms, end_ms))
    select = select_list("observations", "cache_split_known")
    where = f"x.call_id = {statement.bind(call_id, 'String')}"
    return live_rows(await ask.rows(statement, statement.ledger(select, where=where, every_id=True)))


async def _newest(ask: Asking, page: Page) -> list[Row]:
    """Return up to one live row more than the page holds, reading the ledger backwards in windows.

    The ledger is ordered by time inside an organisation, so a window is read where it lies, without a sort.
    """
    wanted = page.limit + 1
    window = 2 * wanted
    before = (page.after.at, page.after.id) if page.after else (page.end_ms, "")
    found: list[Row] = []
    while len(found) < wanted:
        raw = await _window(ask, page.start_ms, before, window)
        whole = raw if len(raw) < window else _without_last_call(raw)
        found += live_rows(whole)
        if len(raw) < window:
            break
        if whole:
            before = (whole[-1]["at_ms"], whole[-1]["call_id"])
        window *= 2  # a call of many states filled the window, or few rows were live
    return found[:wanted]


async def _window(ask: Asking, start_ms: int, before: tuple[int, str], size: int) -> list[Row]:
    at_ms, call_id = before
    statement = Statement(ask.scope(start_ms, at_ms + 1))
    time = f"fromUnixTimestamp64Milli({statement.bind(at_ms, 'Int64')}, 'UTC')"
    where = f"(x.occurred_at < {time} OR x.call_id < {statement.bind(call_id, 'String')})"
    sql = statement.ledger(select_list(), where=where)
    return list(await ask.rows(statement, f"{sql} ORDER BY x.occurred_at DESC, x.call_id DESC LIMIT {size}"))


def _without_last_call(raw: list[Row]) -> list[Row]:
    """Drop the rows of the last call: the window may have cut through its states."""
    last = (raw[-1]["at_ms"], raw[-1]["call_id"])
    end = len(raw)
    while end and (raw[end - 1]["at_ms"], raw[end - 1]["call_id"]) == last:
        end -= 1
    return raw[:end]
