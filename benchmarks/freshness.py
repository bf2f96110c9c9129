"""From acknowledged to visible: the delay at a steady 2,000 events a second, with the service's defaults.

A publisher in a process of its own sends 100 events every 50 ms through the product's own publisher and notes
when the broker has acknowledged them. Every such chunk carries a name of its own as its user, machine,
project and team: a question to all eight rollups, every 20 ms, tells which chunks are visible in full.
The delay of every event is counted as that of the last one of its chunk. The aggregator runs beside the
embedded engine.

    python benchmarks/freshness.py [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import parts
import report
import workload
from tokentide_aggregator.__main__ import tune_garbage_collection
from tokentide_aggregator.app import running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common import logging
from tokentide_common.broker import Publisher, Record
from tokentide_common.database import open_database
from tokentide_common.events import encode_event
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows
from tokentide_common.topics import USAGE

CHUNK = 100
ORG = "org_fresh"
# rollup → the column in which it carries a chunk's name
ROLLUPS = {
    **dict.fromkeys(
        ("usage_15m", "usage_day_model", "usage_session", "usage_day", "usage_day_person"), "user_id"
    ),
    "usage_day_machine": "machine_id",
    "usage_day_project": "project",
    "usage_day_price": "team",
}
_VISIBLE = "SELECT chunk, min(n) AS calls FROM ({}) GROUP BY chunk HAVING count() = {}".format(
    " UNION ALL ".join(
        f"SELECT {name} AS chunk, '{table}' AS rollup, sum(calls) AS n FROM {table}"
        f" WHERE org_id = {{org:String}} AND {name} > {{after:String}} GROUP BY chunk"
        for table, name in ROLLUPS.items()
    ),
    len(ROLLUPS),
)


def chunk_name(number: int) -> str:
    return f"chunk-{number:08d}"


async def publish(url: str, seconds: float, rate: int) -> None:
    """Be the publisher: print, at the end, when each chunk was acknowledged."""
    rates = workload.nano_rates()
    chunks = int(seconds * rate / CHUNK)
    events = [e for e, _ in workload.first_sights(0, int(chunks * CHUNK / 0.89), rates)][: chunks * CHUNK]
    now = datetime.now(UTC)
    for number, event in enumerate(events):
        event.org_id = ORG
        event.user_id = event.machine_id = event.project = event.team = chunk_name(number // CHUNK)
        event.occurred_at = event.observed_at = now
    values = [Record(event.call_id.encode(), encode_event(event)) for event in events]
    publisher = Publisher(url, deadline_s=10)
    await publisher.start()
    acknowledged: dict[str, float] = {}

    async def send(number: int) -> None:
        await publisher.publish(USAGE, values[number * CHUNK : (number + 1) * CHUNK])
        acknowledged[chunk_name(number)] = time.time()

    started = time.monotonic()
    tasks = []
    for number in range(chunks):
        await asyncio.sleep(max(0, started + number * CHUNK / rate - time.monotonic()))
        tasks.append(asyncio.create_task(send(number)))
    await asyncio.gather(*tasks)
    await publisher.stop()
    print(json.dumps(acknowledged))


async def watch(store: Store, chunks: int) -> dict[str, float]:
    """Return when each chunk was first seen in full, in all rollups."""
    visible: dict[str, float] = {}
    after = ""
    deadline = time.monotonic() + 120 + chunks * 0.05
    while len(visible) < chunks:
        assert time.monotonic() < deadline, f"{chunks - len(visible)} chunks never became visible"
        asked = time.monotonic()
        found = await rows(store, _VISIBLE, {"org": ORG, "after": after})
        now = time.time()
        for row in found:
            if row["calls"] == CHUNK:
                visible.setdefault(row["chunk"], now)
        while chunk_name(int(after[6:] or -1) + 1) in visible:
            after = chunk_name(int(after[6:] or -1) + 1)
        await asyncio.sleep(max(0, 0.02 - (time.monotonic() - asked)))
    return visible


async def measured(url: str, path: Path, seconds: float, rate: int) -> list[report.Line]:
    """Run publisher, aggregator and watcher, and compare their clocks."""
    logging.configure("json", level="error")
    settings = AggregatorSettings(broker_url=url, embedded=True, log_level="error")
    store = Store(f"chdb://{path}/chdb")
    await migrate(store)
    engine = open_database(f"sqlite:///{path}/claims.db")
    async with running(settings, store=store, engine=engine, metrics=Metrics()) as (consumer, _):
        tune_garbage_collection()
        while not consumer.ready():
            await asyncio.sleep(0.05)
        arguments = (__file__, "--publish", url, "--seconds", str(seconds), "--rate", str(rate))
        publishing = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, limit=1 << 24
        )
        reading = asyncio.create_task(publishing.communicate())
        visible = await watch(store, int(seconds * rate / CHUNK))
        acknowledged = json.loads((await reading)[0])
    await store.close()
    delays = sorted(visible[name] - at for name, at in acknowledged.items())
    p99 = delays[math.ceil(len(delays) * 0.99) - 1]
    events = f"{len(delays) * CHUNK:,} events at {rate:,}/s"
    note = f"p50 {median(delays):.2f} s, worst {delays[-1]:.2f} s, {events}"
    return [
        report.Line(
            "freshness",
            "acknowledged to visible, p99",
            p99,
            unit="s",
            goal=1.0,
            at_most=True,
            note=note,
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", metavar="BROKER_URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish:
        asyncio.run(publish(args.publish, args.seconds, args.rate))
        return
    with parts.folder() as path, parts.broker(path, args.partitions) as url:
        report.show(asyncio.run(measured(url, path, args.seconds, args.rate)), as_json=args.json)


if __name__ == "__main__":
    main()
