"""`GET /api/v1/live` from a real topic: a call is on the stream once, as soon as it is counted."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import httpx
import pytest

from infra.accounts_people import SECRET
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_aggregator.app import running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.broker import Publisher, Record, ensure_topics
from tokentide_common.database import open_database
from tokentide_common.errors import Unavailable
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.metrics import Metrics
from tokentide_common.serving import serving
from tokentide_common.topics import COUNTED, USAGE
from tokentide_query_api.app import create_app
from tokentide_query_api.live.hub import LiveHub
from tokentide_query_api.settings import QuerySettings

ORGANIZATIONS = ("org_a", "org_b")


class Live:
    """The service over a stream of events, and keys of two organisations."""

    def __init__(self, client: httpx.AsyncClient, publisher: Publisher, keys: dict[str, str]) -> None:
        self.client, self.publisher, self.keys = client, publisher, keys

    async def send(self, call_id: str, org: str = "org_a", **fields: Any) -> None:
        said = UsageEvent(
            call_id=call_id,
            source="cli",
            org_id=org,
            occurred_at=datetime.now(UTC),
            **{"output_tokens": 5, **fields},
        )
        await self.publisher.publish(USAGE, [Record(call_id.encode(), encode_event(said))])

    @contextlib.asynccontextmanager
    async def watching(self, org: str = "org_a", last_id: str = "") -> AsyncIterator[AsyncIterator[Any]]:
        headers = {"authorization": f"Bearer {self.keys[org]}"}
        headers |= {"last-event-id": last_id} if last_id else {}
        async with self.client.stream("GET", "/api/v1/live", headers=headers) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (
                200,
                "text/event-stream; charset=utf-8",
            )
            yield read(answer)


async def read(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield events as a browser's EventSource would."""
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name in ("id", "event"):
            event[name] = value
        elif name == "data":
            event["data"] = json.loads(value)
        elif not line and "data" in event:
            yield event
            event = {}


@pytest.fixture
async def live(tansu, store, tmp_path):
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    for org in ORGANIZATIONS:
        create_organization(engine, org, org_id=org)
    keys = {org: issue_key(engine, org, "a")[0] for org in ORGANIZATIONS}
    publisher = Publisher(tansu.url, deadline_s=10)
    chosen = AggregatorSettings(
        broker_url=tansu.url, embedded=True, batch_linger_ms=20, session_timeout_ms=tansu.session_ms
    )
    app = create_app(QuerySettings(broker_url=tansu.url, secret_key=SECRET), store=store, engine=engine)
    async with running(chosen, store=store, engine=engine, metrics=Metrics()) as (consumers, _task):
        await until(consumers.ready, what="partitions")
        async with (
            serving(app, host="127.0.0.1", port=0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            yield Live(client, publisher, keys)
            app.state.live.close()
    await publisher.stop()
    engine.dispose()


async def test_a_call_is_on_the_stream_within_a_second_of_its_arrival_and_for_its_organisation_alone(live):
    async with live.watching() as mine, live.watching("org_b") as theirs:
        assert [(await anext(mine))["event"], (await anext(theirs))["event"]] == ["hello", "hello"]
        await live.send("warm")
        assert (await anext(mine))["data"]["calls"][0]["call_id"] == "warm"
        took = []
        for number in range(1, 6):
            sent = time.monotonic()
            await live.send(f"req_{number}", model="claude-opus-4-5", input_tokens=7)
            change = await anext(mine)
            took.append(time.monotonic() - sent)
            assert change["event"] == "change"
            assert (change["data"]["totals"]["calls"], change["data"]["totals"]["input_tokens"]) == (1, 7)
            assert change["data"]["calls"][0]["call_id"] == f"req_{number}"
        # Of five, not of one: beside other tests a machine may stand still, but a late stream is late mostly.
        assert median(took) < 1
        await live.send("req_b", "org_b")
        assert [c["call_id"] for c in (await anext(theirs))["data"]["calls"]] == ["req_b"]


async def test_who_comes_again_misses_nothing_and_sees_nothing_twice(live):
    calls: list[str] = []
    last_id = ""
    total = 0
    for number in range(4):
        async with live.watching(last_id=last_id) as stream:
            if number == 0:
                last_id = (await anext(stream)).get("id", "")
                await live.send("req_first")
            while len(calls) < 1 + 3 * number:
                event = await anext(stream)
                assert event["event"] == "change"
                calls += [call["call_id"] for call in event["data"]["calls"]]
                total += event["data"]["totals"]["output_tokens"]
                last_id = event["id"]
        for each in range(3):  # while nobody watches
            await live.send(f"req_{number}_{each}")
    assert sorted(calls) == sorted(set(calls))
    assert len(calls) == 10
    assert total == 50


async def test_a_stranger_sees_no_stream(live):
    answer = await live.client.get("/api/v1/live", headers={"authorization": "Bearer tt_a_wrong"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_broker_that_forgot_everything_begins_every_stream_anew(tansu):
    hub = LiveHub(tansu.url)
    publisher = Publisher(tansu.url, deadline_s=10)
    row = b'{"org_id":"org_a","call_id":"c","occurred_at":"2026-11-22T10:30:00Z"}'

    async def tell(key: bytes) -> None:
        await ensure_topics(tansu.url, embedded=True)
        await publisher.publish(COUNTED, [Record(key, row)])

    await tell(b"before-1")
    await tell(b"before-2")
    await hub.open()
    place, last_id = hub.newest, hub.newest_id
    assert (place, hub.place_of(last_id)) == (1, 1)
    tansu.kill()
    tansu.restart()
    await until(lambda: told(tell, b"after"), what="the broker is back")

    async def cut() -> bool:
        return await hub.after(place, wait_s=0.05) is None

    await until(cut, what="streams are cut")
    assert hub.place_of(last_id) is None
    await publisher.stop()
    await hub.stop()


async def told(tell: Callable[[bytes], Awaitable[None]], key: bytes) -> bool:
    with contextlib.suppress(Unavailable):
        await tell(key)
        return True
    return False
