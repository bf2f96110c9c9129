"""The pages that links in letters lead to: they load nothing from elsewhere, and nobody frames them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from litestar.testing import AsyncTestClient

from infra.sqlite import migrated_sqlite
from tokentide_common.database import open_database
from tokentide_query_api.accounts import letters
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings

SITE = "https://tokentide.example"
LETTERS = (
    letters.verify_email("ann@example.com", SITE, "the-secret"),
    letters.reset_password("ann@example.com", SITE, "the-secret"),
    letters.invitation("ann@example.com", SITE, "the-secret", organisation="Acme", inviter=""),
)


async def test_every_link_in_a_letter_leads_to_a_page_that_runs_its_own_script_alone(tmp_path: Path) -> None:
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    links = [urlsplit(re.findall(rf"{SITE}\S+", letter.text)[0]) for letter in LETTERS]
    async with AsyncTestClient(create_app(QuerySettings(), engine=engine)) as client:
        pages = [await client.get(link.path) for link in links]
        script = await client.get("/letter.js")
        routes = (await client.get("/schema/openapi.json")).json()["paths"]
    engine.dispose()
    for link, answer in zip(links, pages, strict=True):
        # Browsers keep what is behind the hash to themselves.
        assert (link.fragment, link.query) == ("token=the-secret", "")
        assert f'<form id="{link.path[1:]}" hidden>' in answer.text
        assert f'async "{link.path[1:]}"(' in script.text
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.search(r"<script(?! src=)|\son[a-z]+=|style", answer.text)
    for answer in (*pages, script):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not re.search(r"https?://|//[a-z]+\.", answer.text)
        assert not re.search(r"localStorage|sessionStorage|document\.cookie|innerHTML|eval\(", answer.text)
    asked = set(re.findall(r'ask\("([^"]+)"', script.text))
    assert {f"/api/v1/{path}" for path in asked} <= routes.keys()
    assert len(asked) == 4
