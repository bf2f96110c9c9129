"""`tokentide limits`: how full limits are, as tables and as JSON."""

from __future__ import annotations

import json
from typing import Any

from infra.query_stub import QueryStub

from .conftest import Run

WINDOW: dict[str, Any] = {
    "provider": "anthropic",
    "account": "acct-[1]",
    "key_id": "key_1",
    "model": "",
    "kind": "unified_5h",
    "window_minutes": 300,
    "level": "yellow",
    "utilization": "0.804",
    "limit": None,
    "remaining": None,
    "status": "allowed",
    "resets_at": "2026-11-22T12:35:00Z",
    "source": "proxy",
    "observed_at": "2026-11-22T10:29:30Z",
    "age_s": 30,
}
OVER = {**WINDOW, "kind": "requests", "model": "m", "level": "unknown", "resets_at": "2026-11-22T10:00:00Z"}
OTHER = {**WINDOW, "provider": "openai", "kind": "retry", "utilization": None, "resets_at": None}
ANSWER = {"as_of": "2026-11-22T10:30:00Z", "items": [WINDOW, OVER, {**OTHER, "age_s": 93_700}]}


def test_each_account_has_a_table_with_how_full_until_when_and_how_old(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"limits": ANSWER}
    ended = tokentide("limits")
    assert ended.code == 0
    assert query_stub.asked == [("limits", {})]
    lines = [" ".join(line.replace("│", " ").split()) for line in ended.out.splitlines()]
    for line in (
        "anthropic acct-[1]",
        "unified_5h 80 % yellow 2 h 5 min 30 s ago",
        "requests m 80 % unknown over 30 s ago",
        "openai acct-[1]",
        "retry yellow 1 d 2 h ago",
    ):
        assert line in lines, ended.out


def test_as_json_it_is_the_answer_and_without_limits_it_says_so(
    query_stub: QueryStub, tokentide: Run
) -> None:
    query_stub.answers = {"limits": ANSWER}
    assert json.loads(tokentide("limits", "--json").out) == ANSWER
    query_stub.answers = {"limits": {**ANSWER, "items": []}}
    assert "through the proxy" in tokentide("limits").err
