"""A proxy that cannot read its keys says so, and goes on trying."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import sqlalchemy as sa
from structlog.testing import capture_logs

from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database, writing
from tokentide_proxy.access import Access
from tokentide_proxy.settings import ProxySettings


async def test_a_row_that_cannot_be_read_is_told_and_does_not_end_the_trying(tmp_path: Path) -> None:
    url = migrated_sqlite(tmp_path / "accounts.db")
    engine = open_database(url)
    issue_key(engine, create_organization(engine, "o"), "p")
    set_end = sa.text("UPDATE api_keys SET expires_at = :end")
    with writing(engine) as connection:
        connection.execute(set_end, {"end": "no time"})
    access = Access(ProxySettings(broker_url="kafka://127.0.0.1:1", database_url=url))
    async with contextlib.AsyncExitStack() as stack:
        with capture_logs() as lines:
            opening = asyncio.create_task(stack.enter_async_context(access.open()))
            await until(lambda: any(line["event"] == "background_work_failed" for line in lines))
        assert not access.is_open
        with writing(engine) as connection:
            connection.execute(set_end, {"end": None})
        await until(lambda: access.is_open)
        await opening
    engine.dispose()
