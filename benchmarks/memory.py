"""Resident memory of each service, a process of its own with its defaults, after a million events.

The store is the embedded engine behind ClickHouse's HTTP protocol, in another process, so that the engine's
buffers are in no service. The aggregator counts a million events while the ranker ranks what it announces;
the query API then answers a thousand questions; ingest takes a million events in batches of a thousand.

    python benchmarks/memory.py [--events 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import ingest
import parts
import report
import workload
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database

ORG = "org_0000"
_COUNTED = re.compile(
    r'^tokentide_aggregator_events_total\{.*topic="tokentide.usage".*\} ([0-9.e+]+)$', re.MULTILINE
)
_FILTER = re.compile(
    r'^tokentide_aggregator_filter_bytes\{topic="tokentide.usage"\} ([0-9.e+]+)$', re.MULTILINE
)
LIMIT_MB = 200


def get(port: int, route: str, secret: str = "") -> str:
    """Return what a service says, "" while it does not answer with success."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{route}")
    if secret:
        request.add_header("x-tokentide-key", secret)
    with (
        contextlib.suppress(urllib.error.URLError, OSError),
        urllib.request.urlopen(request, timeout=30) as got,
    ):
        return str(got.read().decode())
    return ""


class Watched:
    """A service in a process of its own, and the most memory it ever had."""

    def __init__(self, module: str, path: Path, **settings: object) -> None:
        from infra.process import Process, free_port

        self.port = free_port()
        chosen = {"health_port": self.port, "log_level": "error", **settings}
        if module == "tokentide_query_api":
            chosen["query_port"] = chosen.pop("health_port")
        self.process = Process(
            [sys.executable, "-m", module],
            log=path / f"{module}.log",
            ready=lambda: bool(get(self.port, "healthz")),
            environment={f"TOKENTIDE_{name.upper()}": str(value) for name, value in chosen.items()},
        )
        self.process.start()
        self.at_start = self.peak = parts.rss_mb(self.process.pid)

    def look(self) -> float:
        """Return the memory now, and remember it if it is the most yet."""
        now = parts.rss_mb(self.process.pid)
        self.peak = max(self.peak, now)
        return now


def line(name: str, now: float, peak: float, note: str = "") -> report.Line:
    text = f"peak {peak:.0f} MB" + (f", {note}" if note else "")
    return report.Line("memory", name, now, unit="MB", goal=LIMIT_MB, at_most=True, note=text)


def measured(events: int, path: Path, broker_url: str, store_url: str) -> Iterator[report.Line]:
    """Run aggregator and ranker over the events, then ask the query API."""
    database_url = f"sqlite:///{path}/accounts.db"
    engine = open_database(database_url)
    for number in range(workload.ORGS):
        create_organization(engine, f"Org {number}", org_id=f"org_{number:04d}")
    secret, _ = issue_key(engine, ORG, "a")
    engine.dispose()
    shared = {"broker_url": broker_url, "clickhouse_url": store_url, "database_url": database_url}
    with contextlib.ExitStack() as stack:
        aggregator = Watched("tokentide_aggregator", path, **shared)
        stack.callback(aggregator.process.stop)
        ranker = Watched("tokentide_ranker", path, **shared)
        stack.callback(ranker.process.stop)
        deadline = time.monotonic() + 60 + events / 500
        while (said := sum(map(float, _COUNTED.findall(get(aggregator.port, "metrics"))))) < events:
            assert time.monotonic() < deadline, f"only {said:,.0f} of {events:,} events are counted"
            aggregator.look()
            ranker.look()
            time.sleep(0.2)
        found = _FILTER.search(get(aggregator.port, "metrics"))
        filter_mb = float(found[1]) / 1e6 if found else 0
        note = f"{aggregator.at_start:.0f} MB at start, filter {filter_mb:.1f} MB"
        yield line("aggregator", aggregator.look(), aggregator.peak, note)
        yield line("ranker", ranker.look(), ranker.peak, f"{ranker.at_start:.0f} MB at start")
        api = Watched("tokentide_query_api", path, **shared)
        stack.callback(api.process.stop)
        span = "from=2026-08-15T00:00:00Z&to=2026-10-15T00:00:00Z"
        routes = (f"summary?{span}", f"timeseries?{span}&bucket=day", f"breakdown?{span}&by=user_id")
        for number in range(1000):
            assert get(api.port, f"api/v1/usage/{routes[number % 3]}", secret), "the query API refuses"
            api.look()
        yield line("query-api", api.look(), api.peak, f"{api.at_start:.0f} MB at start, 1,000 questions")


def of_ingest(events: int, path: Path, broker_url: str) -> report.Line:
    """Send batches to ingest and return its memory after them."""
    engine = open_database(f"sqlite:///{path}/accounts.db")
    secret, _ = issue_key(engine, ORG, "m")
    engine.dispose()
    batches = events // ingest.EVENTS
    _, rss = asyncio.run(ingest.measured(broker_url, path, secret, ingest.batch_body(), batches))
    return line("ingest", rss, rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    lines = []
    with parts.folder() as path, parts.broker(path, 12) as broker_url:
        from infra.stores import ClickHouseProcess

        parts.fill(broker_url, 12, 0, args.events)
        store = ClickHouseProcess(path)
        try:
            lines += measured(args.events, path, broker_url, store.database_url("tokentide"))
        finally:
            store.stop()
        lines.append(of_ingest(args.events, path, broker_url))
    report.show(lines, as_json=args.json)


if __name__ == "__main__":
    main()
