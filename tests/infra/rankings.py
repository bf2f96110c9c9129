"""Stored rankings, as the ranker writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from tokentide_common.store import Store


def ranking(fence: int, entries: list[tuple[str, int, int, int | None]], **fields: Any) -> dict[str, Any]:
    """Return a stored ranking; an entry is (entity, value, rank, previous rank)."""
    total = sum(value for _, value, _, _ in entries)
    return {
        "org_id": "org_a", "period": "month", "period_start": "2026-11-01", "scope": "users",
        "metric": "cost",
        "version": fence << 32 | 1, "time_zone": "Asia/Tokyo", "computed_at": "2026-11-22T10:00:00.000Z",
        "total": total,
        "entries.entity": [e for e, _, _, _ in entries],
        "entries.value": [v for _, v, _, _ in entries],
        "entries.rank": [r for _, _, r, _ in entries],
        "entries.previous_rank": [p for _, _, _, p in entries],
        "entries.percentile": [100.0 - 10 * i for i in range(len(entries))],
        "entries.share": [v / total for _, v, _, _ in entries],
        **fields,
    }  # fmt: skip


async def insert_rankings(store: Store, *rankings: dict[str, Any]) -> None:
    """Store rankings as the ranker writes them."""
    await store.insert("rankings", b"\n".join(msgspec.json.encode(row) for row in rankings))
