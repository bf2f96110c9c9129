"""The ingest service in this process, with an organisation and a key, on a broker of the test's choice."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord
from litestar import Litestar

from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.broker import bootstrap_servers
from tokentide_common.database import open_database
from tokentide_common.serving import serving
from tokentide_ingest.app import create_app
from tokentide_ingest.settings import IngestSettings

BATCHES = "/api/v1/cli/batches"
READ_S = 30.0


@dataclass
class Ingest:
    client: httpx.AsyncClient
    settings: IngestSettings
    port: int
    org_id: str
    key_id: str
    secret: str
    app: Litestar

    async def post(self, events: Sequence[Any] | bytes, **headers: str) -> httpx.Response:
        body = events if isinstance(events, bytes) else batch_body(events)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(BATCHES, content=body, headers=named)


def event(call_id: str = "req_1", **fields: Any) -> dict[str, Any]:
    return {
        "call_id": call_id,
        "source": "cli",
        "occurred_at": "2026-11-22T11:00:00Z",
        "model": "claude-opus-4-5",
        "output_tokens": 5,
    } | fields


def batch_body(events: Sequence[Any]) -> bytes:
    return json.dumps({"machine": {"id": "mac-1", "name": "Laptop"}, "events": list(events)}).encode()


@contextlib.asynccontextmanager
async def ingest_service(broker_url: str, folder: Path, **options: Any) -> AsyncIterator[Ingest]:
    database_url = migrated_sqlite(folder / "accounts.db")
    engine = open_database(database_url)
    org_id = create_organization(engine, "Test")
    secret, record = issue_key(engine, org_id, "m")
    engine.dispose()
    settings = IngestSettings(
        broker_url=broker_url, database_url=database_url, **{"ingest_port": 0, "otlp_grpc_port": 0, **options}
    )
    app = create_app(settings)
    async with (
        serving(app, host="127.0.0.1", port=0, drain_s=2) as port,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"x-tokentide-key": secret}, timeout=40
        ) as client,
    ):
        yield Ingest(client, settings, port, org_id, record.key_id, secret, app)


async def ready(ingest: Ingest) -> None:
    async def answers() -> bool:
        return (await ingest.client.get("/readyz")).status_code == 200

    await until(answers, what="ingest is ready")


@contextlib.asynccontextmanager
async def reading(url: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers(url), auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def everything_on(url: str, topic: str) -> list[ConsumerRecord]:
    """Return all records of a topic, up to where it ends now; fail when they cannot be had."""
    deadline = time.monotonic() + READ_S
    async with reading(url, topic) as consumer:
        records: list[ConsumerRecord] = []
        ends = await consumer.end_offsets(list(consumer.assignment()))
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                assert time.monotonic() < deadline, f"{topic}[{partition}] gives no records"
                got = await consumer.getmany(partition, timeout_ms=1000)
                records += [record for found in got.values() for record in found]
        return records
