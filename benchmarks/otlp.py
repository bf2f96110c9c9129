"""OTLP log records per CPU-second through the doors: HTTP with JSON and protobuf, and gRPC, to the broker.

The shape is that of `otlp_decode.py`, 200 calls a request. Counted is the CPU of the service's own process,
from the socket to the broker's acknowledgement of every record.

    python benchmarks/otlp.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx
import psutil
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

import parts
import report
from otlp_decode import RECORDS, bodies, reference_request
from tokentide_common import logging
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.serving import serving, stop_requested
from tokentide_ingest.__main__ import run, tune_garbage_collection
from tokentide_ingest.app import create_app
from tokentide_ingest.settings import IngestSettings

CLIENTS = 4
PROTOBUF = "application/x-protobuf"
SERVICE = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
GOALS = {"HTTP, json": 40_000, "HTTP, protobuf": 25_000, "gRPC": 25_000}
Send = Callable[[], Awaitable[bool]]


class Doors(NamedTuple):
    """Where the process under test listens."""

    http: int
    grpc: int
    process: psutil.Process


async def serve(broker_url: str, database_url: str) -> None:
    """Be the process under test: print the ports, serve until told to stop."""
    logging.configure("json")
    settings = IngestSettings(
        broker_url=broker_url,
        database_url=database_url,
        otlp_grpc_port=0,
        ingest_requests_per_s=1e6,
        ingest_burst_requests=10**6,
    )
    app = create_app(settings)
    async with serving(app, host="127.0.0.1", port=0) as port:
        tune_garbage_collection()
        print(port, app.state.otlp_grpc_port, flush=True)
        await stop_requested()


@contextlib.asynccontextmanager
async def doors(broker_url: str, database_url: str, log: Path) -> AsyncIterator[Doors]:
    arguments = (__file__, "--serve", broker_url, database_url)
    with log.open("ab") as errors:
        started = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    assert started.stdout is not None
    try:
        http, over_grpc = map(int, (await started.stdout.readline()).split())
        yield Doors(http, over_grpc, psutil.Process(started.pid))
    finally:
        started.terminate()
        await started.wait()


@contextlib.asynccontextmanager
async def senders(to: Doors, secret: str) -> AsyncIterator[dict[str, Send]]:
    """Yield, for each way in, what sends one request and says whether it was taken."""
    body = bodies(reference_request())
    key = {"x-tokentide-key": secret}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{to.http}", headers=key, timeout=30) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{to.grpc}") as channel,
    ):
        export = channel.unary_unary(SERVICE)

        async def post(media_type: str, content: bytes) -> bool:
            answer = await client.post("/v1/logs", content=content, headers={"content-type": media_type})
            return answer.status_code == 200 and taken(media_type, answer.content)

        async def call() -> bool:
            try:
                return taken(PROTOBUF, await export(body["protobuf"], metadata=tuple(key.items())))
            except grpc.aio.AioRpcError:
                return False

        yield {
            "HTTP, json": lambda: post("application/json", body["json"]),
            "HTTP, protobuf": lambda: post(PROTOBUF, body["protobuf"]),
            "gRPC": call,
        }


def taken(media_type: str, answer: bytes) -> bool:
    """Say whether an answer of success leaves no record out."""
    parse = ExportLogsServiceResponse.FromString if media_type == PROTOBUF else _from_json
    return parse(answer).partial_success.rejected_log_records == 0


def _from_json(answer: bytes) -> ExportLogsServiceResponse:
    return json_format.Parse(answer, ExportLogsServiceResponse())


async def spent(send: Send, requests: int, process: psutil.Process) -> float:
    """Return the CPU seconds of the service per request."""

    async def client(count: int) -> None:
        done = 0
        while done < count:
            if await send():
                done += 1
            else:  # not connected yet, or the machine is busy with another's load
                await asyncio.sleep(0.2)

    await client(20)
    before = process.cpu_times()
    await asyncio.gather(*(client(requests // CLIENTS) for _ in range(CLIENTS)))
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (requests // CLIENTS * CLIENTS)


async def measured(broker_url: str, path: Path, secret: str, requests: int) -> list[report.Line]:
    """Measure every way in, one after the other, against one service."""
    found = []
    async with (
        doors(broker_url, f"sqlite:///{path}/accounts.db", path / "ingest.log") as to,
        senders(to, secret) as ways,
    ):
        for name, send in ways.items():
            rate = RECORDS / await spent(send, requests, to.process)
            what = f"log records per CPU-second, {name}, to the broker"
            found.append(
                report.Line("otlp", what, rate, unit="records", goal=GOALS[name], note=f"{rate:,.0f}")
            )
        memory = parts.rss_mb(to.process.pid)
    return [*found, report.Line("otlp", "memory after the load", memory, unit="MB", goal=250, at_most=True)]


def lines(requests: int) -> Iterator[report.Line]:
    """Measure and say it."""
    with parts.folder() as path, parts.broker(path, 12) as broker_url:
        engine = open_database(f"sqlite:///{path}/accounts.db")
        secret, _ = issue_key(engine, create_organization(engine, "Bench"), "m")
        engine.dispose()
        yield from asyncio.run(measured(broker_url, path, secret, requests))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("BROKER_URL", "DATABASE_URL"), help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.serve:
        run(serve(*options.serve))
        return
    report.show(list(lines(options.requests)), as_json=options.json)


if __name__ == "__main__":
    main()
