"""The proxy beside nginx, LiteLLM and Portkey: CPU, memory, and what it adds to the time of events.

One worker of each, on a core of its own, with clients and provider on another one. Ours takes the full path:
the key checked, the provider's key put in its place, the usage read, an event to the broker for each call;
the events are counted at the end. Proxies are measured in turns (nginx, ours, ours, nginx), since other load
comes and goes, and medians are compared. CPU is what the system has booked on a proxy's processes.

JSON is measured beside two more: forwarding without the tap, and the least that a proxy in Python takes.
Our modules are compiled, as in the image; `--uncompiled` measures them as `make up` runs them.

nginx is looked for on PATH, LiteLLM there or at BENCH_LITELLM, Portkey below BENCH_PORTKEY; what is missing
is said.

    python benchmarks/proxy.py
    python benchmarks/proxy.py --only json --rounds 4
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from aiokafka import AIOKafkaConsumer, TopicPartition

import parts
import proxy_targets
import report
from proxy_targets import Target
from proxy_upstream import USAGE as SAID
from tokentide_common.broker import bootstrap_servers
from tokentide_common.events import decode_wire_event
from tokentide_common.topics import USAGE

PARTITIONS = 12
PEERS = {"LiteLLM": (proxy_targets.litellm, 100.0), "Portkey": (proxy_targets.portkey, 30.0)}
PEER_LOAD = ("--connections", 16)
Runs = dict[str, list[dict[str, float]]]


class Load:
    """Loads proxies, one at a time, and remembers how many answers each has given."""

    def __init__(self, core: int, rounds: int, seconds: float) -> None:
        self.answered: Counter[str] = Counter()
        self._core, self._rounds, self._seconds = core, rounds, seconds

    def once(self, target: Target, what: str, *options: object) -> dict[str, float]:
        """Load a proxy and return what was measured."""
        command = [sys.executable, str(parts.ROOT / "benchmarks" / "proxy_load.py"), what]
        command += [str(target.port), str(target.pid), "--path", target.path, "--key", target.key]
        command += ["--core", str(self._core), "--seconds", str(self._seconds), *map(str, options)]
        for header in target.headers:
            command += ["--header", header]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        measured: dict[str, float] = json.loads(done.stdout)
        self.answered[target.name] += int(measured["total"])
        report.note(f"{target.name} {what}", {name: round(value, 3) for name, value in measured.items()})
        return measured

    def in_turns(self, targets: Sequence[Target], what: str) -> Runs:
        """Load each, and back again, so many times."""
        runs: Runs = defaultdict(list)
        for _ in range(self._rounds):
            for target in (*targets, *reversed(targets)):
                runs[target.name].append(self.once(target, what))
        return runs


def of(runs: Runs, name: str, figure: str) -> float:
    """Return the median of a figure."""
    return median(measured[figure] for measured in runs[name])


def told(runs: Runs, figure: str, unit: str) -> str:
    """Return the figure of each proxy, for a note."""
    return ", ".join(f"{name} {of(runs, name, figure):.3g}" for name in runs) + f" {unit}"


def documents(load: Load, targets: Sequence[Target]) -> Iterator[report.Line]:
    """JSON answers: as fast as 64 connections take them, and 1000 a second of each."""
    for kind, what in (("json", "64 connections"), ("paced", "1000 requests/s")):
        runs = load.in_turns(targets, kind)
        spent = {name: of(runs, name, "cpu_ms") for name in runs}
        cores, rates = told(runs, "core", "of a core"), told(runs, "per_s", "requests/s")
        note = (
            f"CPU: {told(runs, 'cpu_ms', 'ms a request')}; {cores}; {rates}; {told(runs, 'p50_ms', 'ms p50')}"
        )
        if "nginx" in runs:
            ratio = spent["nginx"] / spent["ours"]
            yield report.Line("proxy", f"JSON, {what}: CPU efficiency over nginx", ratio, goal=0.3, note=note)
        said = f"JSON, {what}: CPU of the least that Python takes, over ours"
        yield report.Line(
            "proxy", said, spent["floor"] / spent["ours"], note="llhttp on both sides, no checks"
        )
        tap, said = spent["ours"] / spent["plain"] - 1, f"JSON, {what}: cost of the tap over plain forwarding"
        yield report.Line("proxy", said, tap, goal=0.25, at_most=True, note=note)


def streams(load: Load, targets: Sequence[Target]) -> Iterator[report.Line]:
    """110 new streams a second, so that 64 are live, of 30 events with 20 ms between them."""
    runs = load.in_turns(targets, "streams")
    merged = sum(measured["merged"] for measured in runs["ours"])
    every = sum(measured["events"] for measured in runs["ours"])
    others = ", ".join(f"{name} {sum(x['merged'] for x in runs[name]):.0f}" for name in runs)
    yield report.Line(
        "proxy",
        "streams, events merged at 20 ms spacing",
        merged,
        unit="events",
        goal=0,
        at_most=True,
        note=f"of {every:.0f}; {others}; {told(runs, 'held', 'later than 10 ms in a run')}",
    )
    if "nginx" not in runs:
        return
    ratios = {
        figure: of(runs, "ours", figure) / of(runs, "nginx", figure) for figure in ("cpu_ms", "first_ms")
    }
    what, note = "streams, CPU per live stream over nginx", told(runs, "cpu_ms", "ms a stream")
    yield report.Line("proxy", what, ratios["cpu_ms"], goal=2.0, at_most=True, note=note)
    what, note = "streams, first event p50 over nginx, 64 live", told(runs, "first_ms", "ms")
    yield report.Line("proxy", what, ratios["first_ms"], goal=2.0, at_most=True, note=note)
    added = of(runs, "ours", "lag_ms") - of(runs, "nginx", "lag_ms")
    what, note = "streams, event lag p50 beyond nginx's", told(runs, "lag_ms", "ms")
    yield report.Line("proxy", what, added, unit="ms", goal=0.1, at_most=True, note=note)


def peers(load: Load, us: Target, upstream: int, folder: Path, core: int) -> Iterator[report.Line]:
    """CPU per request of other LLM proxies over ours, before and after them."""
    missing = proxy_targets.missing()
    for name, (start, goal) in PEERS.items():
        if name in missing:
            yield report.Line("proxy", f"{name.upper()} IS NOT MEASURED", 0.0, note=missing[name])
            continue
        runs: Runs = {name: [], "ours": [load.once(us, "json", *PEER_LOAD)]}
        with start(upstream, folder, core) as peer:
            runs[name] = [load.once(peer, "json", *PEER_LOAD, "--warm", 5) for _ in range(2)]
        runs["ours"].append(load.once(us, "json", *PEER_LOAD))
        ratio = of(runs, name, "cpu_ms") / of(runs, "ours", "cpu_ms")
        note = told(runs, "cpu_ms", "ms a request")
        yield report.Line("proxy", f"JSON, CPU per request of {name} over ours", ratio, goal=goal, note=note)


async def counted(broker_url: str) -> tuple[int, bool]:
    """Return how many calls the topic has, each once, and whether each has the usage that it was given."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers(broker_url), enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(USAGE, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends, seen, right = await consumer.end_offsets(partitions), set(), True
    while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                event = decode_wire_event(record.value)
                seen.add(event.call_id)
                right &= event.output_tokens == SAID["output_tokens"]
                right &= event.cache_read_tokens == SAID["cache_read_input_tokens"]
    await consumer.stop()
    return len(seen), right


def exactness(load: Load, broker_url: str) -> report.Line:
    """Every answer is one event on the topic, with its own id and the usage that was told."""
    answered = load.answered["ours"]
    deadline = time.monotonic() + 30
    while (found := asyncio.run(counted(broker_url)))[0] < answered and time.monotonic() < deadline:
        time.sleep(1)
    calls, right = found
    value = calls / answered if right else 0.0
    note = f"{calls} of {answered}" if right else "usage is wrong"
    return report.Line("proxy", "calls on the topic over answers", value, goal=1.0, note=note)


def absent(cores: tuple[int, int]) -> Iterator[report.Line]:
    """Say what makes the comparison a poor one, or none."""
    if "nginx" in (missing := proxy_targets.missing()):
        what = "NGINX IS MISSING: nothing to compare with"
        yield report.Line("proxy", what, 0.0, goal=1.0, note=missing["nginx"])
    if "compiler" in missing:
        yield report.Line("proxy", "THE PROXY IS NOT COMPILED", 0.0, goal=1.0, note=missing["compiler"])
    if cores[0] < 0:
        yield report.Line("proxy", "NOTHING IS PINNED", 0.0, goal=1.0, note="it takes Linux and two cores")


def lines(options: argparse.Namespace) -> Iterator[report.Line]:
    """Measure and say it."""
    cores = proxy_targets.cores()
    yield from absent(cores)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(parts.folder())
        upstream = stack.enter_context(proxy_targets.provider(cores[0]))
        broker_url = stack.enter_context(parts.broker(folder, PARTITIONS))
        uncompiled = options.uncompiled or "compiler" in proxy_targets.missing()
        sources = None if uncompiled else proxy_targets.compiled(folder / "compiled")
        us = stack.enter_context(proxy_targets.ours(upstream, broker_url, folder, cores[1], sources))
        beside = [us]
        if "nginx" not in proxy_targets.missing():
            beside.insert(0, stack.enter_context(proxy_targets.nginx(upstream, folder, cores[1])))
        load = Load(cores[0], options.rounds, options.seconds)
        if "json" in options.only:
            plain = stack.enter_context(proxy_targets.plain(upstream, folder, cores[1], sources))
            floor = stack.enter_context(proxy_targets.floor(upstream, folder, cores[1]))
            yield from documents(load, [*beside, plain, floor])
        if "streams" in options.only:
            yield from streams(load, beside)
        if "peers" in options.only:
            yield from peers(load, us, upstream, folder, cores[1])
        memory = parts.rss_mb(us.pid)
        yield report.Line("proxy", "memory of a worker after it", memory, unit="MB", goal=80, at_most=True)
        yield exactness(load, broker_url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="json,streams,peers", type=lambda text: text.split(","))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--uncompiled", action="store_true", help="our modules as sources")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report.show(list(lines(options)), as_json=options.json)


if __name__ == "__main__":
    main()
