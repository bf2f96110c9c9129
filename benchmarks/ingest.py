"""Events per CPU-second of batch ingest, against msgspec alone on the same body.

The limit decodes the body's events and encodes each again, nothing else. Against it run, each in a process of
its own whose CPU time is read from outside: the service's HTTP path (uvicorn, keys, reading, judging,
stamping, encoding) with a publisher that takes everything, and the whole service with the broker's
acknowledgement of every record. The broker's and the client's CPU is in neither.

    python benchmarks/ingest.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from statistics import median

import httpx
import msgspec
import psutil

import parts
import report
import workload
from tokentide_common import logging
from tokentide_common.accounts import KeyDirectory, create_organization, issue_key
from tokentide_common.broker import Record
from tokentide_common.database import open_database
from tokentide_common.events import EdgeEvent
from tokentide_common.metrics import Metrics
from tokentide_common.serving import serving, stop_requested
from tokentide_common.token_bucket import TokenBuckets
from tokentide_common.verdicts import VerdictReader
from tokentide_ingest.__main__ import run, tune_garbage_collection
from tokentide_ingest.app import create_app
from tokentide_ingest.dispatch import Dispatch
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.receiver import BatchReceiver
from tokentide_ingest.routes import BATCHES, batch_routes
from tokentide_ingest.settings import IngestSettings

EVENTS = 1000
LOAD = {"ingest_requests_per_s": 1e6, "ingest_burst_requests": 10**6, "otlp_grpc_port": 0}
CLIENTS = 1


def batch_body() -> bytes:
    """Return a full batch as the command line sends it: without what the key stands for."""
    said = []
    for event, _ in workload.first_sights(0, 2 * EVENTS, workload.nano_rates())[:EVENTS]:
        event.org_id = event.key_id = event.user_id = event.user_email = event.team = event.machine_id = ""
        event.observed_at = None
        said.append(event)
    return msgspec.json.encode({"machine": {"id": "mbp-1", "name": "Laptop"}, "events": said})


class _Events(msgspec.Struct):
    events: list[EdgeEvent]


def limit(body: bytes, batches: int) -> float:
    """Return msgspec's CPU seconds per batch."""
    tune_garbage_collection()
    decode, encode = msgspec.json.Decoder(_Events).decode, msgspec.json.Encoder().encode
    seconds = []
    for _ in range(batches):
        started = time.process_time()
        values = [encode(event) for event in decode(body).events]
        seconds.append(time.process_time() - started)
        assert len(values) == EVENTS
    return median(seconds)


class TakesEverything:
    """A broker that has every record at once."""

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Forget the records."""


@contextlib.asynccontextmanager
async def without_broker(settings: IngestSettings) -> AsyncIterator[int]:
    from litestar import Litestar

    metrics = Metrics()
    keys = KeyDirectory(open_database(settings.database_url))
    await keys.start()
    dispatch = Dispatch(settings, TakesEverything(), VerdictReader(settings.broker_url), metrics)
    budget = ByteBudget(settings.ingest_bytes_in_flight)
    receiver = BatchReceiver(
        dispatch,
        budget,
        metrics,
        read_timeout_s=settings.ingest_read_timeout_s,
        tag_values=settings.tag_values,
        saw=keys.last_seen.machine,
    )
    rate = TokenBuckets(settings.ingest_requests_per_s, settings.ingest_burst_requests)
    app = Litestar(batch_routes(receiver, lambda: keys, rate, metrics), logging_config=None)
    async with serving(app, host="127.0.0.1", port=0) as port:
        yield port
    await keys.stop()


async def serve(broker_url: str, database_url: str) -> None:
    """Be the process under test: print the port, serve until told to stop."""
    logging.configure("json")
    settings = IngestSettings(
        broker_url=broker_url or "kafka://127.0.0.1:1", database_url=database_url, **LOAD
    )
    server = (
        serving(create_app(settings), host="127.0.0.1", port=0) if broker_url else without_broker(settings)
    )
    async with server as port:
        tune_garbage_collection()
        print(port, flush=True)
        await stop_requested()


@contextlib.asynccontextmanager
async def process(broker_url: str, database_url: str, log: Path) -> AsyncIterator[tuple[int, psutil.Process]]:
    arguments = (__file__, "--serve", broker_url, database_url)
    with log.open("ab") as errors:
        started = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    assert started.stdout is not None
    try:
        yield int(await started.stdout.readline()), psutil.Process(started.pid)
    finally:
        started.terminate()
        await started.wait()


async def measured(
    broker_url: str, path: Path, secret: str, body: bytes, batches: int
) -> tuple[float, float]:
    """Return the service's CPU seconds per batch, and its memory in MB at the end."""
    async with (
        process(broker_url, f"sqlite:///{path}/accounts.db", path / "ingest.log") as (port, server),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"x-tokentide-key": secret}, timeout=30
        ) as client,
    ):

        async def send(count: int) -> None:
            done = 0
            while done < count:
                answer = await client.post(BATCHES, content=body)
                if answer.status_code == 202:
                    assert answer.json()["accepted"] == EVENTS
                    done += 1
                else:  # not connected yet, or the machine is busy with another's load
                    await asyncio.sleep(0.2)

        await send(20)
        before = server.cpu_times()
        await asyncio.gather(*(send(batches // CLIENTS) for _ in range(CLIENTS)))
        after = server.cpu_times()
        spent = after.user + after.system - before.user - before.system
        return spent / (batches // CLIENTS * CLIENTS), parts.rss_mb(server.pid)


def lines(batches: int) -> Iterator[report.Line]:
    """Measure and say it; the limit is taken before and after each run, on the same busy machine."""
    body = batch_body()
    with parts.folder() as path, parts.broker(path, 12) as broker_url:
        engine = open_database(f"sqlite:///{path}/accounts.db")
        secret, _ = issue_key(engine, create_organization(engine, "Bench"), "m")
        engine.dispose()
        for what, url, goal in (
            ("HTTP path", "", 0.7),
            ("with the broker's acknowledgement", broker_url, None),
        ):
            before = limit(body, 60)
            spent, rss = asyncio.run(measured(url, path, secret, body, batches))
            alone = median((before, limit(body, 60)))
            figure = f"{EVENTS / spent:,.0f} events per CPU-second, msgspec alone {EVENTS / alone:,.0f}"
            yield report.Line("ingest", f"{what} over msgspec alone", alone / spent, goal=goal, note=figure)
    yield report.Line("ingest", "memory after the load", rss, unit="MB", goal=200, at_most=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("BROKER_URL", "DATABASE_URL"), help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.serve:
        run(serve(*options.serve))
        return
    report.show(list(lines(options.batches)), as_json=options.json)


if __name__ == "__main__":
    main()
