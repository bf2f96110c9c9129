"""The proxy as a process of its own, as it runs in production."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from infra.process import bound_to_us
from infra.proxied import RawClient
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database


class ProxyProcess:
    """Anthropic is where the test says; the broker is away unless it says otherwise."""

    def __init__(self, folder: Path, upstream_port: int, **options: str) -> None:
        database_url = migrated_sqlite(folder / "accounts.db")
        engine = open_database(database_url)
        self.key, _ = issue_key(engine, create_organization(engine, "Test"), "p")
        engine.dispose()
        self.spool = folder / "spool"
        self.port = 0
        self._log = folder / "proxy.log"
        self._environ = {
            "PATH": os.environ["PATH"],
            "TOKENTIDE_BROKER_URL": "kafka://127.0.0.1:1",
            "TOKENTIDE_DATABASE_URL": database_url,
            "TOKENTIDE_PROXY_PORT": "0",
            "TOKENTIDE_PROXY_SPOOL_DIR": str(self.spool),
            "TOKENTIDE_PROXY_UPSTREAMS": f"anthropic=anthropic+http://127.0.0.1:{upstream_port}",
            **options,
        }

    async def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *bound_to_us([sys.executable, "-m", "tokentide_proxy"]),
                env=self._environ,
                stderr=log,
                stdout=log,
            )
        self.port = await until(self._serving, within_s=60, what="it listens")

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def log(self) -> str:
        return self._log.read_text()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[RawClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield RawClient(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return (b"X-Tokentide-Key", self.key.encode()), (b"X-Api-Key", b"sk-ant-own")

    def _serving(self) -> int:
        lines = (line for line in self.log().splitlines(keepends=True) if line.endswith("}\n"))
        said = (json.loads(line) for line in lines)
        return next((line["port"] for line in said if line["event"] == "serving"), 0)
