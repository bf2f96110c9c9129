"""The ingest service as a process of its own, as it runs in production."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.process import bound_to_us
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database


class IngestProcess:
    """The service as a process of its own, as it runs in production."""

    def __init__(self, folder: Path, broker_url: str, **options: str) -> None:
        database_url = migrated_sqlite(folder / "accounts.db")
        engine = open_database(database_url)
        self.secret, _ = issue_key(engine, create_organization(engine, "Test"), "m")
        engine.dispose()
        self._folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "TOKENTIDE_BROKER_URL": broker_url,
            "TOKENTIDE_DATABASE_URL": database_url,
            "TOKENTIDE_INGEST_PORT": "0",
            "TOKENTIDE_OTLP_GRPC_PORT": "0",
            **options,
        }

    async def start(self) -> None:
        with (self._folder / "ingest.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *bound_to_us([sys.executable, "-m", "tokentide_ingest"]),
                env=self._environ,
                stderr=log,
                stdout=log,
            )
        self.client = httpx.AsyncClient(headers={"x-tokentide-key": self.secret}, timeout=40)
        serving = await until(self._serving, what="it listens")
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{serving['port']}")
        self.otlp_grpc = f"127.0.0.1:{serving['otlp_grpc_port']}"

        async def is_ready() -> bool:
            return (await self.client.get("/readyz")).status_code == 200

        await until(is_ready)

    def _serving(self) -> dict[str, Any] | None:
        """Return the line of the log that says where it listens, once it is there."""
        lines = (line for line in self.log().splitlines(keepends=True) if line.endswith("}\n"))
        return next((said for line in lines if (said := json.loads(line))["event"] == "serving"), None)

    def log(self) -> str:
        return (self._folder / "ingest.log").read_text()

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.client.aclose()
        return await asyncio.wait_for(self.process.wait(), 20)
