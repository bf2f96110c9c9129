"""The proxy can be watched like every service, also before it can reach anything."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tokentide_common.serving import serving
from tokentide_proxy.app import create_app, serving_options
from tokentide_proxy.settings import ProxySettings


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 200)])
async def test_the_proxy_can_be_watched(path: str, status: int, tmp_path: Path) -> None:
    settings = ProxySettings(
        database_url=f"sqlite:///{tmp_path / 'accounts.db'}",
        proxy_spool_dir=str(tmp_path / "spool"),
        broker_url="kafka://127.0.0.1:1",
    )
    async with (
        serving(create_app(settings), host="127.0.0.1", port=0, options=serving_options(settings)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        answer = await client.get(path)
    assert answer.status_code == status
