"""CPU per event of the aggregator, broker to visible rollups, against the raw insert of the same rows.

The limit consumes the same topic with the same driver in batches of the same size and inserts the bytes as
they are: same tables, same views, same settings, no identity, no merge, no price. The aggregator runs as with
a durable broker: under `tokentide up` it also keeps the block in work in its database. Each runs in a process
of its own with the engine inside, so the engine's CPU is in both; the broker's is in neither. The runs
alternate (limit, aggregator, aggregator, limit), and the ratio is that of the medians. CPU time is read when
the merges that the inserts began have ended: else the slower of the two pays for more of its own.

    python benchmarks/aggregator.py                    600,000 events
    python benchmarks/aggregator.py --full             5 million, and growth from 1 to 10 million stored calls
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import parts
import report
import workload
from history import quiet
from tokentide_aggregator.__main__ import tune_garbage_collection
from tokentide_aggregator.app import running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common import logging
from tokentide_common.broker import GroupConsumer
from tokentide_common.database import open_database
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows
from tokentide_common.topics import USAGE

ROLLUPS = (
    *("usage_15m", "usage_15m_model", "usage_day_model", "usage_session", "usage_day"),
    *("usage_day_person", "usage_day_machine", "usage_day_project", "usage_day_price", "usage_minute_model"),
)
_STALLED_S = 120.0


async def stored(store: Store) -> dict[str, dict[str, int]]:
    """Return the sums of every rollup."""
    sums = ", ".join(f"toInt64(sum({m})) AS {m}" for m in workload.MEASURES)
    return {t: (await rows(store, f"SELECT {sums} FROM {t}"))[0] for t in ROLLUPS}


class Meter:
    """CPU, wall time and memory of this process from here on."""

    def __init__(self) -> None:
        self._rss, self._cpu, self._wall = parts.rss_mb(), time.process_time(), time.monotonic()

    async def read(self, store: Store, events: int) -> dict[str, Any]:
        """Return what it took per event, with the merges of parts that the inserts have left to do."""
        wall, visible = time.monotonic() - self._wall, time.process_time() - self._cpu
        await quiet(store)
        cpu = time.process_time() - self._cpu
        engine = await rows(store, "SELECT value FROM system.metrics WHERE metric = 'MemoryTracking'")
        return {
            "cpu_us": cpu / events * 1e6,
            "visible_cpu_us": visible / events * 1e6,
            "events_per_s": events / wall,
            "rss_mb": parts.rss_mb(),
            "rss_before_mb": self._rss,
            "engine_mb": engine[0]["value"] / 1e6 if engine else 0,
        }


async def run_limit(url: str, store: Store, events: int, batch: int) -> dict[str, Any]:
    """Consume and insert, two batches at once, as the aggregator does."""
    group = GroupConsumer(url, USAGE, f"limit-{time.time()}", session_timeout_ms=60_000)
    waiting: dict[int, list[Any]] = {}
    tasks: dict[int, asyncio.Task[None]] = {}
    slots = asyncio.Semaphore(2)
    fetched = 0

    async def insert(number: int, records: list[Any]) -> None:
        async with slots:
            end = records[-1].offset + 1
            data = b"\n".join([record.value for record in records])
            await store.insert("ledger", data, token=f"limit-{number}-{end}")
            await group.commit(number, end)

    meter = Meter()
    await group.start()
    while fetched < events or any(waiting.values()):
        got = await group.fetch(timeout_ms=200, max_records=batch)
        for number, records in got.items():
            waiting.setdefault(number, []).extend(records)
            fetched += len(records)
        for number, held in waiting.items():
            if number in tasks and tasks[number].done():
                tasks.pop(number).result()
            if number not in tasks and held and (len(held) >= batch or fetched == events):
                waiting[number] = held[batch:]
                tasks[number] = asyncio.create_task(insert(number, held[:batch]))
            full = len(waiting[number]) >= batch
            (group.pause if full else group.resume)([number])
    await asyncio.gather(*tasks.values())
    measured = await meter.read(store, events)
    await group.stop()
    return measured


async def run_aggregator(
    url: str, path: Path, store: Store, events: int, batch: int, warm: int
) -> dict[str, Any]:
    """Run the service itself until every event is committed; measure from the `warm`th event on."""
    settings = AggregatorSettings(
        broker_url=url,
        batch_max_records=batch,
        batch_linger_ms=2000,
        session_timeout_ms=60_000,
        consumer_group=f"aggregator-{time.time()}",
        log_level="error",
    )
    metrics = Metrics()
    engine = open_database(f"sqlite:///{path}/claims.db")
    names = ("counted", "upgraded", "duplicate", "rejected")
    counters = {
        n: metrics.counter("tokentide_aggregator_events_total", topic=USAGE, outcome=n) for n in names
    }
    async with running(settings, store=store, engine=engine, metrics=metrics) as (_, task):
        await _counted(counters, warm, task)
        meter, done = Meter(), int(_sum(counters))
        await _counted(counters, events, task)
        measured = await meter.read(store, events - done)
    outcomes = {name: int(_value(counter)) for name, counter in counters.items()}
    return {**measured, "outcomes": outcomes, "stage_us": _stages(metrics, events)}


async def _counted(counters: dict[str, Any], events: int, task: asyncio.Task[None]) -> None:
    done, since = 0.0, time.monotonic()
    while (now := _sum(counters)) < events:
        if task.done():
            task.result()
        if now > done:
            done, since = now, time.monotonic()
        # A block whose commit came too late is stored and not reported: its figures would be of other work.
        assert time.monotonic() - since < _STALLED_S, f"{now:,.0f} of {events:,} events are reported"
        await asyncio.sleep(0.05)


def _value(counter: Any) -> float:
    return float(counter.collect()[0].samples[0].value)


def _sum(counters: dict[str, Any]) -> float:
    return sum(map(_value, counters.values()))


def _stages(metrics: Metrics, events: int) -> dict[str, float]:
    """Return the wall time of each stage, in microseconds per event."""
    name = "tokentide_aggregator_stage_duration_seconds_sum"
    found = {}
    for line in metrics.render().decode().splitlines():
        if line.startswith(name):
            stage, seconds = line.removeprefix(name).split(" ")
            found[stage.split('"')[1]] = float(seconds) / events * 1e6
    return found


async def run_design(args: argparse.Namespace) -> dict[str, Any]:
    """One process: one design over one store."""
    logging.configure("json", level="error")
    tune_garbage_collection()
    store = Store(f"chdb://{args.path}/chdb", timeout_s=600)
    await migrate(store)
    try:
        if args.design == "limit":
            return await run_limit(args.url, store, args.events, args.batch)
        measured = await run_aggregator(args.url, args.path, store, args.events, args.batch, args.warm)
        return {**measured, "stored": await stored(store)}
    finally:
        await store.close()


def efficiency(events: int, partitions: int, batch: int, order: str) -> list[report.Line]:
    """Measure the ratio of the limit's CPU to ours, and that every rollup equals the truth."""
    runs: dict[str, list[dict[str, Any]]] = {"limit": [], "aggregator": []}
    expected = workload.truth(0, events)
    for design in order.split(","):
        with parts.folder() as path, parts.broker(path, partitions) as url:
            parts.fill(url, partitions, 0, events)
            measured = parts.child("aggregator.py", "--design", design, *_given(url, path, events, batch))
        report.note(design, measured)
        runs[design].append(measured)
    exact = all(table == expected for run in runs["aggregator"] for table in run["stored"].values())
    limit, ours = (median(r["cpu_us"] for r in runs[d]) for d in ("limit", "aggregator"))
    left, ours_left = (median(r["visible_cpu_us"] for r in runs[d]) for d in ("limit", "aggregator"))
    wall_limit, wall = (median(r["events_per_s"] for r in runs[d]) for d in ("limit", "aggregator"))
    size = f"{events:,} events, {partitions} partitions, blocks of {batch:,}"
    return [
        report.Line(
            "aggregator", "every rollup equals the truth", 1.0 if exact else 0.0, goal=1.0, note=size
        ),
        report.Line(
            "aggregator",
            "efficiency: CPU of the raw insert over ours",
            limit / ours,
            goal=0.6,
            note=f"{limit:.1f} µs against {ours:.1f} µs per event",
        ),
        report.Line(
            "aggregator",
            "the same, read when the last event is visible",
            left / ours_left,
            note=f"{left:.1f} µs against {ours_left:.1f}: merges are left to do",
        ),
        report.Line(
            "aggregator",
            "the same by wall time",
            wall / wall_limit,
            note=f"{wall:,.0f} events/s against {wall_limit:,.0f}",
        ),
    ]


def growth(stored_calls: tuple[int, int], events: int, partitions: int, batch: int) -> list[report.Line]:
    """Measure the aggregator over a small and a large store; repeats reach back into all that is stored.

    The first third is not measured: the filter of counted calls is being built meanwhile.
    """
    rates = {}
    exact = True
    for history in stored_calls:
        with parts.folder() as path, parts.broker(path, partitions) as url:
            parts.child("history.py", "--path", path / "chdb", "--events", history)
            parts.fill(url, partitions, history, events)
            given = _given(url, path, events, batch)
            given += ["--warm", events // 3]
            measured = parts.child("aggregator.py", "--design", "aggregator", *given)
        expected = workload.truth(history, events, history=history)
        exact = exact and all(table == expected for table in measured["stored"].values())
        report.note(f"aggregator over {history:,} emissions", measured)
        rates[history] = measured
    small, large = (rates[history]["cpu_us"] for history in stored_calls)
    what = f"rate at {stored_calls[1] / 1e6:g} M stored calls over the rate at {stored_calls[0] / 1e6:g} M"
    note = f"{small:.1f} µs per event, then {large:.1f}" + ("" if exact else "; NOT EXACT")
    return [report.Line("aggregator", what, small / large if exact else 0.0, goal=0.9, note=note)]


def _given(url: str, path: Path, events: int, batch: int) -> list[object]:
    return ["--url", url, "--path", path, "--events", events, "--batch", batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int)
    parser.add_argument("--partitions", type=int)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--order", default="limit,aggregator,aggregator,limit")
    parser.add_argument("--only", choices=("efficiency", "growth"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--design", choices=("limit", "aggregator"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.design:
        print(json.dumps(asyncio.run(run_design(args))))
        return
    events = args.events or (5_000_000 if args.full else 600_000)
    partitions = args.partitions or (12 if args.full else 4)
    lines = []
    if args.only != "growth":
        lines += efficiency(events, partitions, args.batch, args.order)
    if args.only != "efficiency":
        stored_calls = (1_000_000, 10_000_000) if args.full else (300_000, 3_000_000)
        lines += growth(stored_calls, 1_500_000 if args.full else 450_000, partitions, args.batch)
    report.show(lines, as_json=args.json)


if __name__ == "__main__":
    main()
