"""`tokentide blocks`: active blocks, the pace, and the history."""

from __future__ import annotations

import json
from typing import Any

from infra.query_stub import QueryStub

from .conftest import Run

ACTIVE: dict[str, Any] = {
    "account": "acc-[1]",
    "start": "2026-11-22T09:00:00.000+01:00",
    "end": "2026-11-22T14:00:00.000+01:00",
    "is_active": True,
    "is_gap": False,
    "pinned": True,
    "calls": 12,
    "total_tokens": 1234567,
    "cost_usd": "12.50",
    "overlap_minutes": 4,
    "models": ["opus"],
    "machines": [{"machine_id": "a"}, {"machine_id": "b"}],
    "burn_rate": {"tokens_per_minute": 1500.4, "fresh_tokens_per_minute": 9.0, "cost_usd_per_hour": 3.2},
    "projection": {"remaining_minutes": 210, "total_tokens": 2000000, "cost_usd": 20.25},
}
GAP = {**ACTIVE, "is_gap": True, "is_active": False, "start": "2026-11-22T02:00:00.000+01:00"}
GAP["end"] = ACTIVE["start"]
QUIET = {**ACTIVE, "is_active": False, "pinned": False, "burn_rate": None, "overlap_minutes": 0}
ACCOUNT = {
    "account": "acc-[1]",
    "active": ACTIVE,
    "week": {"cost_usd": "99.00", "calls": 50},
    "blocks": [ACTIVE, GAP, QUIET],
}
ANSWER = {"as_of": "2026-11-22T10:30:00.000+01:00", "tz": "Europe/Berlin", "accounts": [ACCOUNT]}


def test_the_active_block_says_what_is_used_how_fast_and_where_it_leads(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"blocks": ANSWER}
    ended = tokentide("blocks", "--tz", "Europe/Berlin")
    assert ended.code == 0
    assert query_stub.asked == [("blocks", {"from": ["7d"], "tz": ["Europe/Berlin"]})]
    for text in ("acc-[1]", "3 h 30 min", "14:00 (told)", "1,234,567", "$12.50", "1,500 a minute", "$99.00"):
        assert text in ended.out, text
    assert "2,000,000 tokens, $20.25" in ended.out
    assert "━" in ended.out
    assert "gap" not in ended.out


def test_the_history_has_every_block_and_gap(query_stub: QueryStub, tokentide: Run) -> None:
    query_stub.answers = {"blocks": ANSWER}
    ended = tokentide("blocks", "--history")
    for text in ("2026-11-22 09:00–14:00 active told", "gap of 7 h 0 min", "4 min"):
        assert text in ended.out, text


def test_as_json_it_is_the_answer_and_without_a_block_it_says_so(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"blocks": ANSWER}
    assert json.loads(tokentide("blocks", "--json").out) == ANSWER
    query_stub.answers = {"blocks": {**ANSWER, "accounts": [{**ACCOUNT, "active": None}]}}
    assert "no account has an active block" in tokentide("blocks").err
