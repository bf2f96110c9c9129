"""The proxy can be watched like every service, also before it can reach anything; and it is light."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tokentide_common.database import open_database
from tokentide_common.serving import serving
from tokentide_proxy.app import create_app, serving_options
from tokentide_proxy.settings import ProxySettings

HEAVY = ("sqlalchemy", "litestar", "cryptography", "faststream", "pydantic", "psycopg", "clickhouse_connect")


@contextlib.asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = ProxySettings(
        database_url=f"sqlite:///{folder / 'accounts.db'}",
        proxy_spool_dir=str(folder / "spool"),
        broker_url="kafka://127.0.0.1:1",
    )
    async with (
        serving(create_app(settings), host="127.0.0.1", port=0, options=serving_options(settings)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def test_the_proxy_can_be_watched(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'accounts.db'}").dispose()
    async with watched(tmp_path) as client:
        for path, words in (
            ("/healthz", '{"status":"alive"}'),
            ("/readyz", '{"status":"ready","checks":{"keys":true}}'),
            ("/metrics", "tokentide_proxy_streams_in_flight 0.0"),
            ("/metrics", 'tokentide_proxy_upstream_connections{state="idle"} 0.0'),
        ):
            answer = await client.get(path)
            assert (answer.status_code, words in answer.text) == (200, True)
            asked = await client.head(path)
            assert (asked.status_code, asked.text) == (200, "")


async def test_its_own_paths_can_only_be_read(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'accounts.db'}").dispose()
    async with watched(tmp_path) as client:
        refused = await client.post("/metrics")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.json()["code"] == "method_not_allowed"


async def test_with_no_accounts_yet_it_is_alive_and_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide_proxy.access._PATIENCE_S", 0.05)
    async with watched(tmp_path) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/v1/models")).status_code == 503


def test_a_worker_carries_no_library_that_it_does_not_need() -> None:
    """Together they would be half of its memory: see ADR 17."""
    listed = (
        "import sys, tokentide_proxy.__main__\nprint(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert not {*HEAVY} & {*done.stdout.split()}
