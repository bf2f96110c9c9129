"""Rows of limits, for tests that need gauges without an aggregator."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

from tokentide_aggregator.fold import ConsumedRecord
from tokentide_aggregator.limit_rows import COLUMNS, rows_of
from tokentide_common.limit_facts import LimitFact, encode_limit_fact
from tokentide_common.store import Store


def record(value: bytes | None, offset: int = 0) -> ConsumedRecord:
    return SimpleNamespace(offset=offset, timestamp=0, key=None, value=value, headers=())


async def insert_limits(store: Store, facts: Iterable[LimitFact]) -> None:
    """Insert what the facts say in one block."""
    rows, dead = rows_of(record(encode_limit_fact(fact)) for fact in facts)
    assert not dead
    await store.insert("limits", b"\n".join(rows), columns=COLUMNS)
