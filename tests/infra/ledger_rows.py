"""Signed rows of the ledger, for tests that need stored calls without an aggregator.

await insert_calls(store, [call(org_id="org_a", model="m", input_tokens=3)])
old = call(call_id="c", source="cli"); await insert_calls(store, [old])
await upgrade(store, old, call(**{**old, "output_tokens": 5, "sources": ["cli", "proxy"]}))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tokentide_common.identity import call_hash
from tokentide_common.store import Store

Row = dict[str, Any]
_numbers = itertools.count(1)
DEFAULTS: Mapping[str, Any] = {
    "org_id": "org_a",
    "occurred_at": datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
    "sources": ["cli"],
    "status": "ok",
    "version": 1,
    "sign": 1,
    "tags": {},
    "observations": "",
}


def call(**fields: Any) -> Row:
    """Return the +1 row of a call; `call_id` is made up unless given, `token_source` is its first source."""
    row = {**DEFAULTS, "call_id": f"req_{next(_numbers):08d}", **fields}
    row.setdefault("token_source", row["sources"][0])
    row.setdefault("observed_at", row["occurred_at"])
    return row


def taken_back(row: Row) -> Row:
    """Return the row that takes a row back."""
    return {**row, "sign": -1}


async def insert_rows(store: Store, rows: Iterable[Row]) -> None:
    """Insert signed rows as they are, in one block."""
    block = b"\n".join(msgspec.json.encode(row) for row in rows)
    if block:
        await store.insert("ledger", block)


async def insert_calls(store: Store, calls: Iterable[Row]) -> None:
    """Insert new calls, and what the index of seen calls says of them."""
    rows = list(calls)
    await insert_rows(store, rows)
    await insert_seen(store, rows)


async def upgrade(store: Store, old: Row, new: Row) -> Row:
    """Replace the row of a call by another one, in one block; return what is stored now."""
    now = {**new, "call_id": old["call_id"], "version": old["version"] + 1}
    await insert_rows(store, [taken_back(old), now])
    await insert_seen(store, [now])
    return now


async def insert_seen(store: Store, rows: Iterable[Row]) -> None:
    """Write the index of seen calls."""
    lines = b"".join(
        call_hash(row["org_id"], row["call_id"])
        + row["version"].to_bytes(4, "little")
        + milliseconds(row["occurred_at"]).to_bytes(8, "little")
        + bytes(9)  # and no digests: whatever repeats it is looked up
        for row in rows
    )
    if lines:
        await store.insert("seen", lines, fmt="RowBinary")


def milliseconds(instant: datetime) -> int:
    """Return milliseconds since 1970 of an instant that has no finer part."""
    return round(instant.timestamp() * 1000)
