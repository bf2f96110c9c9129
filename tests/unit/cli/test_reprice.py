"""`tokentide admin reprice`: pages added up, shown before it is done, and awaited until the ledger has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.query_stub import QueryStub
from tokentide.failures import Exit

from .conftest import Run


def page(
    cursor: str | None, changed: int, *, old: str = "0", new: str = "1.5", dry: bool = True
) -> dict[str, Any]:
    model = {"provider": "", "model": "house [b]", "calls": 4, "changed": changed, "unpriced_before": changed}
    model |= {"unpriced_after": 0, "old_cost_usd": old, "new_cost_usd": new, "difference_usd": new}
    told = {"price_version": "prices 2", "dry_run": dry, "calls": 4, "changed": changed, "models": [model]}
    return {**told, "next_cursor": cursor}


def test_a_dry_run_adds_up_all_pages_exactly_and_asks_for_nothing(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"repricing": [page("c1", 3, new="0.000000001"), page(None, 2, new="1234567.1")] * 2}
    ended = tokentide("admin", "reprice", "2026-10-01..2026-10-31", "--dry-run", "--model", "house", "--json")
    asked = {"from": "2026-10-01", "to": "2026-10-31", "tz": "UTC", "model": "house", "dry_run": True}
    assert [body for _, body in query_stub.posted] == [asked, {**asked, "cursor": "c1"}]
    told = json.loads(ended.out)
    assert (ended.code, told["calls"], told["changed"]) == (0, 8, 5)
    assert told["difference_usd"] == told["models"][0]["new_cost_usd"] == "1234567.100000001"
    shown = tokentide("admin", "reprice", "--dry-run").out
    assert all(text in shown for text in ("house [b]", "5 → 0", "$1234567.100000001", "5 of 8 calls change"))


def test_what_changes_is_asked_for_and_awaited_page_by_page(query_stub: QueryStub, tokentide: Run) -> None:
    query_stub.answers = {"repricing": [page("c1", 0), page(None, 2, dry=False), page(None, 0)]}
    ended = tokentide("admin", "reprice")
    assert ended.code == 0
    assert [(body["dry_run"], body.get("cursor")) for _, body in query_stub.posted] == [
        (False, None), (False, "c1"), (True, "c1"),
    ]  # fmt: skip


@pytest.mark.parametrize("left", [1, 2])
def test_what_no_aggregator_does_is_said(query_stub: QueryStub, tokentide: Run, left: int) -> None:
    query_stub.answers = {"repricing": [page(None, 2, dry=False), page(None, left)]}
    ended = tokentide("admin", "reprice", "--wait", "0")
    assert (ended.code, "TOKENTIDE_PRICE_OVERRIDES" in ended.err) == (Exit.TRY_LATER, True)
