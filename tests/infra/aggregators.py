"""Aggregators as processes of their own, and what must hold after anything that was done to them."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import psutil

from infra.counting import expected_sums, rollup_sums
from infra.process import Process, free_port
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.broker import Publisher, Record, ensure_topics
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import price_of
from tokentide_common.store import Store
from tokentide_common.topics import USAGE

GROUP = "tokentide-aggregator"
# The soonest that a killed one is missed: who waits for its partitions waits so long.
SESSION_TIMEOUT_MS = 3000


class Aggregators:
    """Starts aggregators over one broker, one store and one SQL database."""

    def __init__(self, folder: Path, broker_url: str, store_url: str, *, group: str = GROUP) -> None:
        self.broker_url, self.store_url, self._group = broker_url, store_url, group
        self._folder = folder
        self._started: list[Process] = []

    def start(self, *, wait: bool = True, **settings: str | int) -> Process:
        """Start one and return once it owns partitions (`wait`) or at once."""
        port = free_port()
        chosen = {"batch_linger_ms": 50, "session_timeout_ms": SESSION_TIMEOUT_MS} | settings
        environment = {f"TOKENTIDE_{name.upper()}": str(value) for name, value in chosen.items()}
        environment |= {
            "TOKENTIDE_BROKER_URL": self.broker_url,
            "TOKENTIDE_CLICKHOUSE_URL": self.store_url,
            "TOKENTIDE_CONSUMER_GROUP": self._group,
            "TOKENTIDE_DATABASE_URL": migrated_sqlite(self._folder / "accounts.db"),
            "TOKENTIDE_HEALTH_PORT": str(port),
        }
        process = Process(
            [sys.executable, "-m", "tokentide_aggregator"],
            log=self._folder / f"aggregator-{len(self._started)}.log",
            ready=lambda: not wait or answers(port, "readyz"),
            environment=environment,
        )
        self._started.append(process)
        process.start()
        return process

    def stop(self) -> None:
        for process in self._started:
            process.resume()
            process.kill()


def stopped(process: Process) -> bool:
    """Say whether SIGSTOP holds a process."""
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def answers(port: int, route: str) -> bool:
    """Say whether a service answers 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{route}", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Traffic:
    """Publishes events and remembers every one that the broker has acknowledged."""

    def __init__(self, broker_url: str, *, group: str = GROUP) -> None:
        self._broker_url, self._group = broker_url, group
        self._publisher = Publisher(broker_url, deadline_s=30)
        self.acknowledged: list[UsageEvent] = []
        self.price = price_of(Prices.load())

    async def start(self) -> None:
        await ensure_topics(self._broker_url)
        await self._publisher.start()

    async def send(self, events: Sequence[UsageEvent]) -> None:
        for start in range(0, len(events), 2000):
            part = events[start : start + 2000]
            await self._publisher.publish(USAGE, [Record(e.call_id.encode(), encode_event(e)) for e in part])
            self.acknowledged.extend(part)

    async def stop(self) -> None:
        await self._publisher.stop()

    async def exact(self, store: Store, *, within_s: float = 60) -> None:
        """Wait until every acknowledged event is counted, and fail unless each is counted once.

        Nothing lost and nothing doubled: every sum of every rollup, and of the ledger, is the expected one.
        """
        expected = expected_sums(self.acknowledged, self.price)

        async def all_there() -> bool:
            return (await rollup_sums(store, "o"))["usage_15m"]["calls"] >= expected["calls"]

        await until(all_there, within_s=within_s, what=f"{expected['calls']} calls in usage_15m")
        await until(self.no_lag, within_s=within_s, what="lag 0")
        said = await rollup_sums(store, "o")
        assert said == dict.fromkeys(said, expected)

    async def no_lag(self) -> bool:
        """Say whether the group has committed everything on the topic."""
        return await lag_of_group(self._broker_url, self._group) == 0


async def lag_of_group(broker_url: str, group: str) -> int:
    """Return how many records of the usage topic the group has not committed."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker_url.removeprefix("kafka://"), group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(USAGE, p) for p in consumer.partitions_for_topic(USAGE) or set()]
        if not partitions:
            await consumer.topics()
            partitions = [TopicPartition(USAGE, p) for p in range(12)]
        ends = await consumer.end_offsets(partitions)
        committed = {tp: await consumer.committed(tp) or 0 for tp in partitions}
        return sum(ends[tp] - committed[tp] for tp in partitions)
    finally:
        await consumer.stop()
