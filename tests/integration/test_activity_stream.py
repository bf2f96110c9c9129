"""Activity from what clients really sent to what the query API answers, over a live broker."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from infra.activity_facts import TABLES, by_quarter, fact, highest, rises, sums
from infra.aggregators import Aggregators
from infra.brokers import Broker
from infra.otlp_bodies import DATA_DIR, captures
from infra.query_client import query_api
from infra.sqlite import migrated_sqlite
from infra.stores import ClickHouseProcess
from infra.topics import all_records
from infra.waiting import until
from tokentide_aggregator.app import running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.activity import ActivityFact, encode_fact
from tokentide_common.broker import Publisher, Record, ensure_topics
from tokentide_common.database import open_database
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows
from tokentide_common.topics import ACTIVITY, DEAD_LETTERS, PERIODS, USAGE, VERDICTS
from tokentide_ingest.otlp.decoding import decode_metrics
from tokentide_ingest.otlp.kept import KEPT
from tokentide_ingest.otlp.points import map_points

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOTALS = json.loads((DATA_DIR / "claude-code/metric_totals.json").read_text("utf-8"))
KINDS = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheCreation": "cache_write"}


def records(facts: Sequence[ActivityFact], *, batch: str = "") -> list[Record]:
    waits = [("reply-to", b"door-1"), ("batch", batch.encode())] if batch else []
    return [
        Record(one.series_id.encode(), encode_fact(one), [*waits, ("index", b"%d" % n)] if batch else [])
        for n, one in enumerate(facts)
    ]


@pytest.fixture
async def publisher(tansu: Broker) -> AsyncIterator[Publisher]:
    opened = Publisher(tansu.url, deadline_s=10)
    yield opened
    await opened.stop()


@contextlib.asynccontextmanager
async def aggregator(tansu: Broker, store: Store, folder: Path, **settings: object) -> AsyncIterator[None]:
    chosen = AggregatorSettings(
        broker_url=tansu.url,
        embedded=True,
        batch_linger_ms=20,
        session_timeout_ms=tansu.session_ms,
        **settings,
    )
    engine = open_database(migrated_sqlite(folder / "aggregator.db"))
    async with running(chosen, store=store, engine=engine, metrics=Metrics()) as (consumers, _task):
        await until(consumers.ready, what="partitions")
        yield
    engine.dispose()


async def exact(store: Store, facts: Sequence[ActivityFact], *, within_s: float = 60) -> None:
    """Wait until every fact is counted, and fail unless each is counted once."""
    expected = dict.fromkeys(TABLES, highest(facts))

    async def all_counted() -> bool:
        return await sums(store) == expected

    async def every_quarter() -> bool:
        return await by_quarter(store) == rises(facts)

    await until(all_counted, within_s=within_s, what="every fact")
    # The totals are there with the highest of each series; what lies below it may still be on its way, and
    # moves increases between the quarters.
    await until(every_quarter, within_s=within_s, what="every increase in its quarter")


def captured() -> list[ActivityFact]:
    """Return the facts of every capture of Claude Code's metrics, as the receiver stamps them."""
    facts = [
        one
        for capture in captures()
        if (capture.client, capture.signal) == ("claude-code", "metrics")
        for one in map_points(decode_metrics(capture.body, capture.encoding, KEPT).items, NOW, {}).facts
    ]
    for one in facts:
        one.org_id, one.user_id = "org_a", one.user_id or one.device_id
    return facts


async def test_what_real_clients_measured_is_what_the_query_api_answers(tansu, store, tmp_path, publisher):
    twice = records(captured()) * 2
    random.Random(4).shuffle(twice)
    async with aggregator(tansu, store, tmp_path, batch_max_records=50):
        await publisher.publish(ACTIVITY, twice)
        expected = highest(captured())

        async def all_counted() -> bool:
            return await sums(store, "org_a") == dict.fromkeys(TABLES, expected)

        await until(all_counted, what="every point")
    async with query_api(store, tmp_path) as api:
        found = await api.json("/activity?from=2026-11-22&by=model,kind&metric=client_tokens")
        said = {tuple(row["key"].values()): Decimal(row["value"]) for row in found["rows"]}
        assert said == of_manifests("claude_code.token.usage")
        alone = await api.json("/activity/metrics-only?from=2026-11-22&by=model,kind")
        assert [row for row in alone["rows"] if row["metric"] == "client_tokens"] == found["rows"]
        done = await api.json("/activity?from=2026-11-22&metric=commits&metric=pull_requests")
        assert [(row["metric"], row["value"]) for row in done["rows"]] == [("commits", "1")]


def of_manifests(metric: str) -> dict[tuple[str, str], Decimal]:
    totals: dict[tuple[str, str], Decimal] = {}
    for run in TOTALS.values():
        for name, total in run.items():
            called, model, kind = name.split("/")
            if called == metric:
                key = (model, KINDS[kind])
                totals[key] = totals.get(key, Decimal(0)) + Decimal(str(total))
    return totals


async def test_whoever_waits_hears_of_facts_and_poison_becomes_a_dead_letter(
    tansu, store, tmp_path, publisher
):
    said = [fact(value="5"), fact(value="5"), fact(value="9"), fact("t"), fact(value="-1")]
    async with aggregator(tansu, store, tmp_path):
        await publisher.publish(ACTIVITY, records(said, batch="b1"))

        async def verdicts() -> dict[int, str]:
            found: dict[int, str] = {}
            for one in await all_records(tansu.url, VERDICTS):
                answer = msgspec.json.decode(one.value)
                assert (one.key, answer["batch"]) == (b"door-1", "b1")
                found |= dict(answer["verdicts"])
            return found if len(found) == len(said) else {}

        heard = await until(verdicts)
        assert heard == {0: "counted", 1: "duplicate", 2: "upgraded", 3: "counted", 4: "rejected"}
        (dead,) = await all_records(tansu.url, DEAD_LETTERS)
        assert dict(dead.headers)["source-topic"] == ACTIVITY.encode()
        assert dict(dead.headers)["reason"] == b"unreadable_record"
        await exact(store, said[:4])
    assert await all_records(tansu.url, PERIODS) == [], "nothing is ranked by activity"


async def test_calls_and_activity_are_counted_side_by_side(tansu, store, tmp_path, publisher):
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    calls = [UsageEvent(call_id=f"req_{n}", source="otlp", org_id="o", occurred_at=at) for n in range(300)]
    facts = [fact(f"s{n % 9}", str(n), n % 60) for n in range(300)]
    async with aggregator(tansu, store, tmp_path, batch_max_records=40):
        for n in range(0, 300, 60):
            some = [Record(c.call_id.encode(), encode_event(c)) for c in calls[n : n + 60]]
            await publisher.publish(USAGE, some)
            await publisher.publish(ACTIVITY, records(facts[n : n + 60]))
        await exact(store, facts)

        async def all_calls() -> bool:
            return (await rows(store, "SELECT sum(calls) AS n FROM usage_15m"))[0]["n"] == 300

        await until(all_calls)


@pytest.fixture
def aggregators(
    tmp_path: Path, durable_broker: Broker, clickhouse_process: ClickHouseProcess, group: str
) -> Iterator[Aggregators]:
    url = clickhouse_process.database_url("activity")
    started = Aggregators(tmp_path, durable_broker.url, url, group=group)
    yield started
    started.stop()


async def test_kill_9_between_the_ledger_and_its_index_loses_and_doubles_nothing(
    aggregators, durable_broker, clickhouse_process
):
    facts = [fact(f"s{n % 40}", str(n), n % 240, user_id=f"u{n % 3}") for n in range(3000)]
    random.Random(5).shuffle(facts)
    store = Store(clickhouse_process.database_url("activity"), timeout_s=5)
    await migrate(store)
    await ensure_topics(durable_broker.url)
    sending = Publisher(durable_broker.url, deadline_s=30)
    for start in range(0, len(facts), 500):
        await sending.publish(ACTIVITY, records(facts[start : start + 500]))
    await sending.stop()
    for size in (100, 130):
        member = aggregators.start(wait=False, batch_max_records=size, failpoint="after_insert:kill@4")
        await until(lambda m=member: not m.alive, within_s=60, what="the failpoint")
    aggregators.start(batch_max_records=170)
    await exact(store, facts, within_s=120)
    await store.close()
