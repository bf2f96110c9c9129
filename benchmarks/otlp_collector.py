"""OTLP log records per CPU-second through our doors, over those of the OpenTelemetry Collector.

Both get the same requests in the same ways, one after the other in turns, each on one core, and export to the
same broker. Counted is the CPU of the one process, from the first request until every record is on its topic;
a record that is not there fails the run. The Collector (OTLP receiver, batch processor, Kafka exporter with
`otlp_proto`) passes on what it reads, 8192 records a message, and answers before they are on the topic; ours
makes a record of every call, mapped, judged and stamped with its organisation, and answers after.

    python benchmarks/otlp_collector.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

import collector
import parts
import report
from otlp import CLIENTS, Doors, Send, doors, senders
from otlp_decode import RECORDS
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.broker import bootstrap_servers
from tokentide_common.database import open_database
from tokentide_common.topics import USAGE

PARTITIONS = 12
TOPIC = "otlp_logs"
WARM_UP = 40
ARRIVAL_DEADLINE_S = 60
Count = Callable[[], Awaitable[int]]


class Contender(NamedTuple):
    """One of the two: what sends it a request, what says how many records it has put on its topic."""

    ways: dict[str, Send]
    count: Count
    process: psutil.Process


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """What is started herein has one core, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.asynccontextmanager
async def reader(broker_url: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at the beginning of the topic, in all its partitions."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers(broker_url),
        max_partition_fetch_bytes=32_000_000,
        fetch_max_bytes=64_000_000,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        yield consumer
    finally:
        await consumer.stop()


def counting(consumer: AIOKafkaConsumer, records_in: Callable[[bytes], int]) -> Count:
    """Return what counts the log records of all messages so far.

    They are read one by one: Tansu's end of a partition is that of its last batch's first record.
    """
    seen = 0

    async def count() -> int:
        nonlocal seen
        while batches := await consumer.getmany(timeout_ms=200):
            seen += sum(records_in(message.value) for batch in batches.values() for message in batch)
        return seen

    return count


def one_call(_: bytes) -> int:
    """Each of our messages is a call."""
    return 1


def log_records(message: bytes) -> int:
    """Each of the Collector's messages is a request."""
    resources = ExportLogsServiceRequest.FromString(message).resource_logs
    return sum(len(scope.log_records) for resource in resources for scope in resource.scope_logs)


async def spent(contender: Contender, way: str, requests: int) -> float:
    """Send so many requests and return the CPU seconds until all of their records are on the topic."""

    async def client() -> None:
        for _ in range(requests // CLIENTS):
            assert await contender.ways[way](), f"{way}: a request was not taken"

    expected = await contender.count() + requests // CLIENTS * CLIENTS * RECORDS
    before = contender.process.cpu_times()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    deadline = time.monotonic() + ARRIVAL_DEADLINE_S
    while (found := await contender.count()) != expected:
        assert time.monotonic() < deadline, f"{way}: {expected - found} records are not on the topic"
    after = contender.process.cpu_times()
    return after.user + after.system - before.user - before.system


async def compared(ours: Contender, theirs: Contender, requests: int, rounds: int) -> list[report.Line]:
    """Measure both in turns, way by way."""
    found = []
    for way in ours.ways:
        for contender in (ours, theirs):
            await spent(contender, way, WARM_UP)
        pairs = [
            (await spent(ours, way, requests), await spent(theirs, way, requests)) for _ in range(rounds)
        ]
        records = requests // CLIENTS * CLIENTS * RECORDS
        rates = [records * rounds / sum(spans) for spans in zip(*pairs, strict=True)]
        each = sorted(theirs_s / ours_s for ours_s, theirs_s in pairs)
        note = f"{rates[0]:,.0f} over {rates[1]:,.0f}; rounds {each[0]:.2f} to {each[-1]:.2f}"
        what = f"log records per CPU-second, {way}, over the OpenTelemetry Collector's"
        found.append(report.Line("otlp_collector", what, rates[0] / rates[1], note=note))
    memory = [parts.rss_mb(contender.process.pid) for contender in (ours, theirs)]
    found[-1].note += f"; memory {memory[0]:.0f} and {memory[1]:.0f} MB"
    return found


async def measured(
    executable: Path, broker_url: str, path: Path, options: argparse.Namespace
) -> list[report.Line]:
    """Start both and compare them."""
    database_url = f"sqlite:///{path}/accounts.db"
    engine = open_database(database_url)
    secret, _ = issue_key(engine, create_organization(engine, "Bench"), "m")
    engine.dispose()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(broker_url))
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    await admin.close()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        with one_core():
            our_doors = await enter(doors(broker_url, database_url, path / "ingest.log"))
            started = collector.running(executable, broker_url, TOPIC, path / "otelcol.log")
            http, grpc, pid = stack.enter_context(started)
        their_doors = Doors(http, grpc, psutil.Process(pid))
        calls = counting(await enter(reader(broker_url, USAGE)), one_call)
        records = counting(await enter(reader(broker_url, TOPIC)), log_records)
        ours = Contender(await enter(senders(our_doors, secret)), calls, our_doors.process)
        theirs = Contender(await enter(senders(their_doors, secret)), records, their_doors.process)
        return await compared(ours, theirs, options.requests, options.rounds)


def lines(options: argparse.Namespace) -> list[report.Line]:
    """Measure and say it; where the Collector cannot be had, say that."""
    with parts.folder() as path, parts.broker(path, PARTITIONS) as broker_url:
        try:
            executable = collector.binary()
        except collector.Unavailable as reason:
            what = "NOT COMPARED WITH THE OPENTELEMETRY COLLECTOR"
            return [report.Line("otlp_collector", what, 0.0, unit="ratios", note=str(reason))]
        return asyncio.run(measured(executable, broker_url, path, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report.show(lines(options), as_json=options.json)


if __name__ == "__main__":
    main()
