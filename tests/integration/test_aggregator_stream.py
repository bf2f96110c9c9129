"""The aggregator on a live stream: poison, the brake, verdicts, and the days that it announces."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from infra.brokers import Broker
from infra.observations import NOON
from infra.sqlite import migrated_sqlite
from infra.topics import all_records
from infra.waiting import until
from tokentide_aggregator.app import running
from tokentide_aggregator.consumers import Consumers
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import Publisher, Record
from tokentide_common.database import open_database
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store, rows
from tokentide_common.topics import DEAD_LETTERS, PERIODS, USAGE, VERDICTS

CANARY = b"the prompt of a user who trusts us"


def event(call_id: str = "req_1", **fields: object) -> UsageEvent:
    return UsageEvent(**{"call_id": call_id, "source": "cli", "org_id": "o", "occurred_at": NOON, **fields})


def record(said: UsageEvent, *, batch: str = "", index: int = 0) -> Record:
    headers = [("reply-to", b"door-1"), ("batch", batch.encode()), ("index", b"%d" % index)] if batch else []
    return Record(said.call_id.encode(), encode_event(said), headers)


@pytest.fixture
async def publisher(tansu: Broker) -> AsyncIterator[Publisher]:
    opened = Publisher(tansu.url, deadline_s=10)
    yield opened
    await opened.stop()


@contextlib.asynccontextmanager
async def aggregator(
    tansu: Broker, store: Store, folder: Path, **settings: object
) -> AsyncIterator[Consumers]:
    chosen = AggregatorSettings(
        broker_url=tansu.url,
        embedded=True,
        batch_linger_ms=20,
        session_timeout_ms=tansu.session_ms,
        **settings,
    )
    engine = open_database(migrated_sqlite(folder / "accounts.db"))
    async with running(chosen, store=store, engine=engine, metrics=Metrics()) as (consumers, _task):
        await until(consumers.ready, what="partitions")
        yield consumers
    engine.dispose()


async def counted(store: Store) -> int:
    return int((await rows(store, "SELECT sum(calls) AS n FROM usage_15m"))[0]["n"])


async def test_poison_goes_to_the_dead_letters_by_reason_and_hash_and_its_neighbours_are_counted(
    tansu, store, tmp_path, publisher
):
    poison = [
        b"{" + CANARY,
        b"\xff\xfe\x00" + CANARY,
        encode_event(event(org_id="", project=CANARY.decode())),
    ]
    async with aggregator(tansu, store, tmp_path):
        good = [record(event(f"req_{n}")) for n in range(20)]
        await publisher.publish(USAGE, good[:10] + [Record(b"bad", value) for value in poison] + good[10:])

        async def all_counted() -> bool:
            return await counted(store) == 20

        await until(all_counted)

        async def letters() -> list:
            found = await all_records(tansu.url, DEAD_LETTERS)
            return found if len(found) == len(poison) else []

        dead = await until(letters)
    assert sorted(dict(r.headers)["reason"] for r in dead) == sorted(
        [b"unreadable_record", b"unreadable_record", b"no_organization"]
    )
    hashes = {dict(r.headers)["sha256"].decode() for r in dead}
    assert hashes == {hashlib.sha256(value).hexdigest() for value in poison}
    assert all(CANARY not in (r.value or b"") + b"".join(v for _, v in r.headers) for r in dead)
    assert {dict(r.headers)["source-topic"] for r in dead} == {USAGE.encode()}


async def test_a_flood_of_poison_stops_the_partition_uncommitted_and_says_so(
    tansu, store, tmp_path, publisher
):
    async with aggregator(tansu, store, tmp_path, dead_letter_window=50) as consumer:
        await publisher.publish(USAGE, [Record(b"bad", b"{%d" % n) for n in range(200)])
        await until(lambda: not consumer.ready(), what="the brake")
    assert await all_records(tansu.url, DEAD_LETTERS) == []
    async with aggregator(tansu, store, tmp_path, dead_letter_window=100_000):

        async def repeated() -> bool:
            return len(await all_records(tansu.url, DEAD_LETTERS)) == 200

        await until(repeated, what="the stopped records, once they are wanted")


async def test_whoever_waits_hears_what_became_of_each_event(tansu, store, tmp_path, publisher):
    async with aggregator(tansu, store, tmp_path):
        sent = [event(output_tokens=5), event(output_tokens=5), event("req_2"), event(output_tokens=9)]
        await publisher.publish(USAGE, [record(e, batch="b1", index=n) for n, e in enumerate(sent)])
        headers = record(event(), batch="b1", index=4).headers
        await publisher.publish(USAGE, [Record(b"req_1", b"not an event", headers)])

        async def verdicts() -> dict[int, str]:
            said: dict[int, str] = {}
            for r in await all_records(tansu.url, VERDICTS):
                assert r.key == b"door-1"
                answer = msgspec.json.decode(r.value)
                assert answer["batch"] == "b1"
                said |= dict(answer["verdicts"])
            return said if len(said) == 5 else {}

        said = await until(verdicts)
    assert said == {0: "counted", 1: "duplicate", 2: "counted", 3: "upgraded", 4: "rejected"}


async def test_the_days_that_change_are_announced_also_the_day_that_an_upgrade_leaves(
    tansu, store, tmp_path, publisher
):
    async with aggregator(tansu, store, tmp_path):
        await publisher.publish(USAGE, [record(event())])

        async def announced() -> set[str]:
            found = [msgspec.json.decode(r.value) for r in await all_records(tansu.url, PERIODS)]
            return {day for one in found if one["org_id"] == "o" for day in one["days"]}

        await until(announced)
        earlier = event(occurred_at=NOON - timedelta(days=2), source="otlp")
        await publisher.publish(USAGE, [record(earlier)])

        async def both() -> bool:
            return await announced() == {"2026-11-20", "2026-11-22"}

        await until(both)
    assert await rows(store, "SELECT day, sum(calls) AS n FROM usage_day GROUP BY day HAVING n != 0") == [
        {"day": "2026-11-20", "n": 1}
    ]


async def test_a_broker_that_forgot_its_topics_is_a_new_stream_and_not_a_repeat(tansu, store, tmp_path):
    for life in range(2):
        publisher = Publisher(tansu.url, deadline_s=10)
        async with aggregator(tansu, store, tmp_path):
            await publisher.publish(USAGE, [record(event(f"req_{life}_{n}")) for n in range(50)])

            async def all_counted(expected: int = 50 * (life + 1)) -> bool:
                return await counted(store) == expected

            await until(all_counted)
        await publisher.stop()
        tansu.restart()
