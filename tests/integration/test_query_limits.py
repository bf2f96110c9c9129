"""Limits as a dashboard sees them: the newest word of each account, how full, how old, and nobody else's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from infra.limit_rows import insert_limits
from infra.query_client import NOW, query_api
from tokentide_common.limit_facts import LimitFact


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


def fact(kind: str, seconds_ago: int = 60, **fields: Any) -> LimitFact:
    given = {"org_id": "org_a", "account_id": "acc", "key_id": "key_1", **fields}
    return LimitFact(
        provider="anthropic", kind=kind, observed_at=NOW - timedelta(seconds=seconds_ago), **given
    )


LATER = NOW + timedelta(hours=2)
EARLIER = NOW - timedelta(seconds=1)


async def levels(api: Any) -> dict[str, tuple[str, str | None]]:
    answer = await api.json("/limits")
    return {item["kind"]: (item["level"], item["utilization"]) for item in answer["items"]}


async def test_of_each_limit_the_newest_word_counts_whatever_comes_when(store, api):
    newest = fact("unified_5h", 30, utilization="0.8", resets_at=LATER, status="allowed")
    told = [fact("unified_5h", 90, utilization="0.2"), newest, fact("unified_5h", 45, utilization="0.6")]
    for one in (*told, told[0], *reversed(told)):
        await insert_limits(store, [one])
    await store.command("OPTIMIZE TABLE limits FINAL")
    answer = await api.json("/limits")
    assert answer == {
        "as_of": "2026-11-22T10:30:00Z",
        "items": [
            {
                "provider": "anthropic",
                "account": "acc",
                "key_id": "key_1",
                "model": "",
                "kind": "unified_5h",
                "window_minutes": 300,
                "level": "yellow",
                "utilization": "0.8",
                "limit": None,
                "remaining": None,
                "status": "allowed",
                "resets_at": "2026-11-22T12:30:00Z",
                "source": "proxy",
                "observed_at": "2026-11-22T10:29:30Z",
                "age_s": 30,
            }
        ],
    }


async def test_levels_say_how_much_it_should_worry(store, api):
    await insert_limits(
        store,
        [
            fact("requests", limit=1000, remaining=400, resets_at=LATER),
            fact("tokens", limit=1000, remaining=50, resets_at=LATER),
            fact("input_tokens", limit=1000, remaining=0, resets_at=EARLIER),
            fact("output_tokens", limit=100, remaining=120),
            fact("unified_5h", utilization="0.1", status="rejected", resets_at=LATER),
            fact("unified_7d", utilization="0.5", status="allowed_warning", resets_at=LATER),
            fact("codex_primary", utilization="0.89999999999999", window_minutes=300),
            fact("retry", resets_at=LATER),
            fact("unified_overage", status="rejected"),
        ],
    )
    assert await levels(api) == {
        "requests": ("green", "0.6000"),
        "tokens": ("red", "0.9500"),
        "input_tokens": ("unknown", "1.0000"),
        "output_tokens": ("green", "0.0000"),
        "unified_5h": ("red", "0.1"),
        "unified_7d": ("yellow", "0.5"),
        "codex_primary": ("yellow", "0.899999999"),
        "retry": ("red", None),
        "unified_overage": ("unknown", None),
    }
    await insert_limits(store, [fact("retry", 30, resets_at=EARLIER)])
    assert "retry" not in await levels(api)


async def test_an_organisation_sees_its_own_limits_in_every_format(store, api):
    await insert_limits(store, [fact("requests", limit=10, remaining=4), fact("tokens", org_id="org_b")])
    assert [item["kind"] for item in (await api.json("/limits", "org_b"))["items"]] == ["tokens"]
    for fmt in ("csv", "ndjson", "parquet"):
        answer = await api.get(f"/limits?format={fmt}")
        assert answer.status_code == 200
        assert b"requests" in answer.content
