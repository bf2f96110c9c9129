"""Session totals through the door: facts on the topic of activity, waited for like events."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.brokers import Broker
from infra.ingest_service import Ingest, event, everything_on, ingest_service, ready
from infra.verdicts import Aggregator
from tokentide_common.activity import decode_fact
from tokentide_common.topics import ACTIVITY, USAGE


@pytest.fixture
async def ingest(tansu: Broker, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest_service(tansu.url, tmp_path) as service:
        await ready(service)
        yield service


def totals(session_id: str = "s", **fields: Any) -> dict[str, Any]:
    models = {"m": {"input_tokens": 6, "output_tokens": 89, "cost_usd": "0.005"}}
    return {"session_id": session_id, "at": "2026-11-22T11:00:00Z", "models": models} | fields


async def post(ingest: Ingest, *said: Any, events: tuple[Any, ...] = (), **headers: str) -> httpx.Response:
    body = {"machine": {"id": "mac-1"}, "events": list(events), "totals": list(said)}
    return await ingest.post(json.dumps(body).encode(), **headers)


async def test_totals_are_on_the_topic_of_activity_keyed_by_series_and_stamped(
    ingest: Ingest, tansu: Broker
) -> None:
    answer = await post(ingest, totals(), 7, totals("t"), events=(event("req_1"),))
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    assert [one["index"] for one in answer.json()["rejected_totals"]] == [1]
    records = await everything_on(tansu.url, ACTIVITY)
    facts = [decode_fact(record.value) for record in records]
    assert {record.key for record in records} == {fact.series_id.encode() for fact in facts}
    assert sorted((fact.session_id, fact.metric, fact.kind, fact.value) for fact in facts) == sorted(
        (session, *said)
        for session in "st"
        for said in (
            ("session_tokens", "input", "6"),
            ("session_tokens", "output", "89"),
            ("session_cost_usd", "", "0.005"),
        )
    )
    assert {(fact.org_id, fact.machine_id) for fact in facts} == {(ingest.org_id, "mac-1")}
    assert len(await everything_on(tansu.url, USAGE)) == 1


async def test_whoever_waits_has_the_totals_stored_too(ingest: Ingest, tansu: Broker) -> None:
    async with Aggregator(tansu.url, topics=(USAGE,)).running():
        answer = await post(ingest, totals(), events=(event(),), prefer="wait=1")
    assert answer.status_code == 202
    async with Aggregator(tansu.url).running():
        answer = await post(ingest, totals(), events=(event(), 7), prefer="wait=20")
    assert answer.status_code == 200
    assert answer.json()["verdicts"] == ["counted", "rejected"]


async def test_embedded_totals_are_not_acknowledged_before_they_are_stored(
    tansu: Broker, tmp_path: Path
) -> None:
    async with ingest_service(tansu.url, tmp_path, embedded=True, ingest_store_timeout_s=1.0) as ingest:
        await ready(ingest)
        async with Aggregator(tansu.url, topics=(USAGE,)).running():
            assert (await post(ingest, totals(), events=(event(),))).status_code == 503
        async with Aggregator(tansu.url).running():
            assert (await post(ingest, totals())).status_code == 202
