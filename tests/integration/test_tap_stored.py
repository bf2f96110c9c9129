"""The tap and a real aggregator over a broker that forgets: counted once, whatever is killed in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.aggregators import Aggregators
from infra.brokers import Broker
from infra.stores import ClickHouseProcess
from infra.taps import seen, tapping
from infra.waiting import until
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows


@pytest.fixture
def aggregators(
    tmp_path: Path, tansu: Broker, clickhouse_process: ClickHouseProcess
) -> Iterator[Aggregators]:
    started = Aggregators(tmp_path, tansu.url, clickhouse_process.database_url("tapped"))
    yield started
    started.stop()


async def counted(store: Store) -> tuple[int, int]:
    (row,) = await rows(
        store,
        "SELECT toInt64(sum(sign)) AS calls, toInt64(sum(sign * output_tokens)) AS tokens FROM ledger",
        {},
    )
    return int(row["calls"]), int(row["tokens"])


async def test_events_leave_the_spool_when_they_are_stored_and_count_once_after_a_broker_that_forgot_them(
    tansu: Broker, tmp_path: Path, aggregators: Aggregators
):
    store = Store(aggregators.store_url)
    await migrate(store)
    async with tapping(tansu.url, tmp_path / "spool", embedded=True) as tapped:
        for number in range(500):
            tapped.tap.offer(seen(number))
        await until(lambda: tapped.tap._delivery.is_open)
        aggregator = aggregators.start(embedded="true")
        await until(lambda: tapped.spool_bytes == 0, within_s=60, what="all is stored")
        assert await counted(store) == (500, sum(range(500)))
        aggregator.kill()
        for number in range(400, 900):  # some are told again
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered and tapped.spool_bytes, what="they are on disk")
        tansu.kill()
        assert tapped.spool_bytes
        tansu.restart()
    async with tapping(tansu.url, tmp_path / "spool", embedded=True, drain_s=0.1) as tapped:
        await until(lambda: tapped.tap._delivery.is_open)
        aggregators.start(embedded="true")
        await until(lambda: tapped.spool_bytes == 0, within_s=60, what="all is stored after all")
    assert await counted(store) == (900, sum(range(900)))
    await store.close()
