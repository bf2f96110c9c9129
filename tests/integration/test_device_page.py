"""The page on which people let machines in: it loads nothing from elsewhere, and nobody frames it."""

from __future__ import annotations

import re
from pathlib import Path

from litestar.testing import AsyncTestClient

from infra.sqlite import migrated_sqlite
from tokentide_common.database import open_database
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings


async def test_the_page_runs_its_own_script_alone_and_is_framed_by_nobody(tmp_path: Path) -> None:
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    async with AsyncTestClient(create_app(QuerySettings(), engine=engine)) as client:
        page, script = await client.get("/device"), await client.get("/device.js")
        routes = (await client.get("/schema/openapi.json")).json()["paths"]
    engine.dispose()
    assert page.headers["content-type"].startswith("text/html")
    assert script.headers["content-type"].startswith("text/javascript")
    for answer in (page, script):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://|//[a-z]+\.", answer.text)
        assert not re.search(r"localStorage|sessionStorage|document\.cookie|innerHTML|eval\(", answer.text)
    assert not re.search(r"<script(?! src=)|\son[a-z]+=|style", page.text)
    # Nothing but the button that says so approves, and not before the machine was shown.
    assert 'approve = pressed === "approve"' in script.text
    assert script.text.index('"auth/device/lookup"') < script.text.index('"auth/device/decision"')
    # What it asks for is there.
    asked = set(re.findall(r'ask\("([^"]+)"', script.text))
    assert asked
    assert {f"/api/v1/{path}" for path in asked} <= routes.keys()
