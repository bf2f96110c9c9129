"""`POST /api/v1/cli/limits`: on its topic once it is acknowledged, and nothing else is."""

from __future__ import annotations

from infra.ingest_service import everything_on, ingest_service, ready
from tokentide_common.limit_facts import decode_limit_fact
from tokentide_common.topics import LIMITS

ROUTE = "/api/v1/cli/limits"
WINDOWS = [
    {"kind": "unified_5h", "utilization": "0.42", "window_minutes": 300, "resets_at": "2026-11-22T14:00:00Z"},
    {"kind": "unified_7d", "utilization": "0.1", "window_minutes": 10080},
]


async def test_what_is_reported_reaches_the_topic_under_the_key_that_reported(tansu, tmp_path):
    async with ingest_service(tansu.url, tmp_path, embedded=True) as ingest:
        await ready(ingest)
        answer = await ingest.client.post(ROUTE, json={"machine": {"id": "m-1"}, "limits": WINDOWS})
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        for refused, status, code in (
            ({"json": {"limits": [{"kind": "no kind"}]}}, 400, "malformed_body"),
            ({"content": b"x" * 70_000}, 413, "too_large"),
            ({"json": {"limits": []}, "headers": {"x-tokentide-key": "tt_m_wrong"}}, 401, "unauthorized"),
        ):
            said = await ingest.client.post(ROUTE, **refused)
            assert (said.status_code, said.json()["code"]) == (status, code)
        facts = [decode_limit_fact(record.value) for record in await everything_on(tansu.url, LIMITS)]
        assert sorted(fact.kind for fact in facts) == ["unified_5h", "unified_7d"]
        assert {(f.org_id, f.key_id, f.source) for f in facts} == {(ingest.org_id, ingest.key_id, "cli")}
