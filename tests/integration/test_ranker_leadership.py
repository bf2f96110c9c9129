"""One ranker is active, others take over, announcements are never lost, and a stale one cannot overwrite."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from infra.brokers import Broker
from infra.process import Process, free_port, listens
from infra.sqlite import migrated_sqlite
from infra.stores import ClickHouseProcess
from infra.waiting import until
from tokentide_common.accounts import create_organization
from tokentide_common.accounts_schema import organizations
from tokentide_common.broker import GroupConsumer, Publisher, Record, ensure_topics
from tokentide_common.database import open_database, utc_now, writing
from tokentide_common.migrate import migrate
from tokentide_common.rankings import latest_ranking_sql
from tokentide_common.store import Store, rows
from tokentide_common.topics import PERIODS, RANKINGS, PeriodsTouched
from tokentide_ranker.app import RankerApp, create_app
from tokentide_ranker.records import RankingPublished
from tokentide_ranker.settings import RankerSettings

ORG = "org"
PAST = datetime(2025, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(migrated_sqlite(tmp_path / "tokentide.db"))
    create_organization(opened, "Org", time_zone="Asia/Kathmandu", org_id=ORG)
    yield opened
    opened.dispose()


@pytest.fixture
async def announce(tansu: Broker) -> AsyncIterator[Callable[[datetime], Any]]:
    await ensure_topics(tansu.url, embedded=True)
    publisher = Publisher(tansu.url, deadline_s=10)

    async def publish(at: datetime) -> None:
        value = msgspec.json.encode(PeriodsTouched(ORG, [at.date().isoformat()]))
        await publisher.publish(PERIODS, [Record(ORG.encode(), value)])

    yield publish
    await publisher.stop()


def settings_for(broker: Broker) -> RankerSettings:
    return RankerSettings(broker_url=broker.url, embedded=True, rank_linger_ms=0, rank_lease_seconds=1)


@contextlib.asynccontextmanager
async def running(app: RankerApp) -> AsyncIterator[RankerApp]:
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def put(store: Store, at: datetime, costs: Sequence[int] = (1,), user_id: str = "ann") -> None:
    calls = [
        {"org_id": ORG, "call_id": uuid.uuid4().hex, "sign": 1,
         "occurred_at": at.isoformat(), "observed_at": at.isoformat(), "user_id": user_id, "cost_nano": cost}
        for cost in costs
    ]  # fmt: skip
    await store.insert("ledger", "\n".join(map(json.dumps, calls)).encode())


async def ranked(store: Store, at: datetime, kind: str = "day") -> list[dict[str, Any]]:
    start = {"day": at.date(), "year": at.date().replace(month=1, day=1)}[kind].isoformat()
    params = {"org_id": ORG, "period": kind, "period_start": start, "scope": "users", "metric": "cost",
              "after": 0, "limit": 100}  # fmt: skip
    return await rows(store, latest_ranking_sql(), params)


def valued(store: Store, at: datetime, value: int) -> Callable[[], Any]:
    async def check() -> bool:
        return [row["value"] for row in await ranked(store, at)] == [value]

    return check


async def test_an_announced_day_is_ranked_and_published(
    store: Store, engine: Engine, tansu: Broker, announce: Callable[[datetime], Any]
) -> None:
    async with running(create_app(settings_for(tansu), store=store, engine=engine)) as app:
        await until(lambda: app.service.fence)
        await put(store, PAST, [5])
        await announce(PAST)
        await until(valued(store, PAST, 5))
        consumer = GroupConsumer(tansu.url, RANKINGS, "test", session_timeout_ms=tansu.session_ms)
        await consumer.start()
        seen: dict[tuple[str, ...], RankingPublished] = {}

        async def complete() -> bool:
            for records in (await consumer.fetch(timeout_ms=200, max_records=500)).values():
                for record in records:
                    assert record.key == ORG.encode()
                    one = msgspec.json.decode(record.value, type=RankingPublished)
                    seen[one.period, one.period_start.isoformat(), one.scope, one.metric] = one
            return len(seen) >= 75

        await until(complete, what="75 rankings on the topic")
        await consumer.stop()
    one = seen["day", "2025-03-04", "users", "cost"]
    assert (one.total, one.entity_count, one.time_zone, one.fence) == (5, 1, "Asia/Kathmandu", 1)
    assert [(e.entity, e.value, e.rank) for e in one.entries] == [("ann", 5, 1)]


async def test_what_was_ranked_is_acknowledged_and_repeating_it_changes_nothing(
    store: Store, engine: Engine, tansu: Broker, announce: Callable[[datetime], Any]
) -> None:
    await put(store, PAST, [5])
    async with running(create_app(settings_for(tansu), store=store, engine=engine)):
        await announce(PAST)
        await until(valued(store, PAST, 5))
        before = await ranked(store, PAST)
        await announce(PAST)

        async def again() -> bool:
            return (await ranked(store, PAST))[0]["computed_at"] > before[0]["computed_at"]

        await until(again)
        after = await ranked(store, PAST)
    assert [{**row, "computed_at": ""} for row in after] == [{**row, "computed_at": ""} for row in before]
    group = "tokentide-ranker"
    consumer = GroupConsumer(tansu.url, PERIODS, group, session_timeout_ms=tansu.session_ms)
    await consumer.start()
    await until(consumer.owned)
    assert not await consumer.fetch(timeout_ms=500, max_records=10), "acknowledged: nothing comes again"
    await consumer.stop()


async def test_a_new_ranker_ranks_what_no_announcement_tells_it(
    store: Store, engine: Engine, tansu: Broker
) -> None:
    await put(store, PAST, [5])
    await put(store, utc_now(), [7])
    app = create_app(settings_for(tansu), store=store, engine=engine)
    async with running(app):
        await until(valued(store, PAST, 5))
    with writing(engine) as connection:
        connection.execute(sa.update(organizations).values(time_zone="Pacific/Kiritimati"))
    async with running(app):  # the same application, started again

        async def in_the_new_zone() -> bool:
            day = (PAST + timedelta(hours=14)).replace(tzinfo=UTC)
            return [r["time_zone"] for r in await ranked(store, day)] == ["Pacific/Kiritimati"]

        await until(in_the_new_zone)
        assert await ranked(store, PAST) == [], "in the old zone's day there is nothing in the new zone"


async def test_of_two_rankers_one_is_active_and_the_other_takes_over_when_it_stops(
    store: Store, engine: Engine, tansu: Broker, announce: Callable[[datetime], Any]
) -> None:
    first, second = (create_app(settings_for(tansu), store=store, engine=engine) for _ in range(2))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(second))
        await until(lambda: second.service.fence)
        async with running(first):
            await put(store, PAST, [5])
            await announce(PAST)
            await until(valued(store, PAST, 5))
            assert (first.service.fence, second.service.fence) == (None, 1)
            await stack.aclose()  # the second one ends
            await put(store, PAST, [1])
            await announce(PAST)
            await until(lambda: first.service.fence == 2, within_s=3)
            await until(valued(store, PAST, 6))


class StallingStore(Store):
    """A store whose caller can be held up just before a ranking is written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.stalled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def insert(self, table: str, block: bytes, **options: Any) -> None:
        if not self.go_on.is_set():
            self.stalled.set()
            await self.go_on.wait()
        await super().insert(table, block, **options)


async def test_a_ranker_that_slept_through_its_lease_neither_overwrites_nor_acknowledges(
    store: Store, store_url: str, engine: Engine, tansu: Broker, announce: Callable[[datetime], Any]
) -> None:
    slow = StallingStore(store_url)
    sleeper = create_app(settings_for(tansu), store=slow, engine=engine)
    # The successor's clock is far ahead, so that it finds the lease expired at once.
    successor = create_app(
        settings_for(tansu), store=store, engine=engine, now=lambda: utc_now() + timedelta(hours=1)
    )
    async with running(sleeper):
        await until(lambda: sleeper.service.fence == 1)
        await put(store, PAST, [1])
        await announce(PAST)
        await until(valued(store, PAST, 1))
        slow.go_on.clear()
        await put(store, PAST, [1])
        await announce(PAST)
        await until(slow.stalled.is_set)  # it has read 2 and not yet written it
        await put(store, PAST, [1])  # the true value is 3 now, and no announcement of it comes
        async with running(successor):
            await until(lambda: successor.service.fence == 2, within_s=3)
            # Not acknowledged by the sleeper: the successor gets the announcement too.
            await until(valued(store, PAST, 3))
            slow.go_on.set()
            await until(lambda: sleeper.service.fence is None)

            async def stale_rows() -> bool:
                sql = "SELECT count() AS n FROM rankings WHERE bitShiftRight(version, 32) = 1 AND total = 2"
                return bool((await rows(store, sql))[0]["n"])

            await until(stale_rows, what="the sleeper's late rows")
            assert [(r["value"], r["fence"]) for r in await ranked(store, PAST)] == [(3, 2)]
    await slow.close()


async def test_an_outage_of_the_store_delays_rankings_and_loses_none(
    clickhouse_process: ClickHouseProcess, engine: Engine, tansu: Broker, announce: Callable[[datetime], Any]
) -> None:
    store = Store(clickhouse_process.database_url("tokentide"), timeout_s=5)
    await migrate(store)
    async with running(create_app(settings_for(tansu), store=store, engine=engine)) as app:
        await until(lambda: app.service.fence)
        await put(store, PAST, [5])
        clickhouse_process.kill()
        await announce(PAST)
        await until(lambda: app.service.metrics.render().count(b"tokentide_ranker_active 1.0") == 1)
        assert await app.service.checks() == {"started": True, "store": False}
        clickhouse_process.restart()
        await until(valued(store, PAST, 5), within_s=30)
    await store.close()


def ranker_process(number: int, folder: Path, broker: Broker, store_url: str) -> tuple[Process, int]:
    port = free_port()
    environment = {
        "TOKENTIDE_BROKER_URL": broker.url,
        "TOKENTIDE_CLICKHOUSE_URL": store_url,
        "TOKENTIDE_DATABASE_URL": migrated_sqlite(folder / "tokentide.db"),
        "TOKENTIDE_EMBEDDED": "true",
        "TOKENTIDE_HEALTH_PORT": str(port),
        "TOKENTIDE_RANK_LEASE_SECONDS": "2",
        "TOKENTIDE_RANK_LINGER_MS": "50",
    }
    process = Process(
        [sys.executable, "-m", "tokentide_ranker"],
        log=folder / f"ranker-{number}.log",
        ready=lambda: listens(port),
        environment=environment,
    )
    process.start()
    return process, port


def is_active(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return b"tokentide_ranker_active 1.0" in answer.read()


async def test_a_frozen_ranker_process_is_replaced_within_seconds_and_stands_by_when_it_wakes(
    clickhouse_process: ClickHouseProcess,
    engine: Engine,
    tansu: Broker,
    announce: Callable[[datetime], Any],
    tmp_path: Path,
) -> None:
    url = clickhouse_process.database_url("tokentide")
    store = Store(url)
    await migrate(store)
    await put(store, PAST, [1])
    processes = dict(ranker_process(n, tmp_path, tansu, url)[::-1] for n in range(2))
    try:
        await until(lambda: sum(map(is_active, processes)) == 1)
        await until(valued(store, PAST, 1))
        (frozen,) = (port for port in processes if is_active(port))
        (other,) = processes.keys() - {frozen}
        processes[frozen].pause()
        await put(store, PAST, [1])
        await announce(PAST)
        await until(lambda: is_active(other), within_s=6, what="takeover")
        await until(valued(store, PAST, 2))
        processes[frozen].resume()
        await until(lambda: not is_active(frozen))
        await put(store, PAST, [1])
        await announce(PAST)
        await until(valued(store, PAST, 3))
        assert [row["fence"] for row in await ranked(store, PAST)] == [2]
        processes[other].stop()
        await until(lambda: is_active(frozen), within_s=4, what="takeover after a clean stop")
    finally:
        for process in processes.values():
            process.stop()
        await store.close()
