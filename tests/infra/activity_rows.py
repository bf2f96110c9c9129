"""Rows of the ledger of activity, for tests that need clients' own totals without an aggregator."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from tokentide_common.store import Store

Row = dict[str, Any]
_numbers = itertools.count(1)


def activity(metric: str, value: object, **fields: Any) -> Row:
    """Return the +1 row of what one series adds to a quarter of an hour."""
    return {
        "org_id": "org_a",
        "bucket": datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
        "series_id": f"x_{next(_numbers)}",
        "metric": metric,
        "source": "cli" if metric.startswith("session_") else "otlp",
        "value": str(value),
        "sign": 1,
        "tags": {},
        **fields,
    }


def totals(metric: str, cost: str = "", **fields: Any) -> list[Row]:
    """Return what a client says of a session: `metric` is `client` or `session`; token counts by kind."""
    kinds = {name: fields.pop(name) for name in list(fields) if isinstance(fields[name], int)}
    rows = [activity(f"{metric}_tokens", n, kind=kind, **fields) for kind, n in kinds.items()]
    return [*rows, *([activity(f"{metric}_cost_usd", cost, **fields)] if cost else [])]


async def insert_activity(store: Store, rows: Iterable[Row]) -> None:
    """Insert rows in one block."""
    block = b"\n".join(msgspec.json.encode(row) for row in rows)
    if block:
        await store.insert("activity", block)
