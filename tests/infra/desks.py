"""What account routes work with, of one replica or several on one database, with a clock that tests set."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from infra.accounts_people import SECRET
from tokentide_common.accounts import KeyDirectory
from tokentide_common.accounts_schema import audit_log, outbox
from tokentide_common.database import open_database, reading_async
from tokentide_query_api.accounts.desk import Desk, open_desk
from tokentide_query_api.accounts.login import Visitor
from tokentide_query_api.accounts.passwords import Passwords
from tokentide_query_api.settings import QuerySettings

PASSWORD = "correct horse battery"
VISITOR = Visitor("192.0.2.7", "a browser", "request-1")
# As real as the others, and cheap.
CHEAP = {"time_cost": 1, "memory_kib": 8}


class Clock:
    """A clock that stands until a test sets it forward."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@contextlib.asynccontextmanager
async def replicas(database_url: str, count: int = 1, **settings: Any) -> AsyncIterator[list[Desk]]:
    """Open the desks of several replicas of the query API, all with one clock: `desk.clock`."""
    engine = open_database(database_url)
    told = QuerySettings(**{"secret_key": SECRET, "signup": "open", **settings})
    clock = Clock()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        desks = []
        for _ in range(count):
            keys = KeyDirectory(engine)
            stack.push_async_callback(keys.stop)
            await keys.start()
            desk = await stack.enter_async_context(open_desk(told, engine, keys, clock))
            desks.append(msgspec.structs.replace(desk, passwords=Passwords(**CHEAP)))
        yield desks


async def letters_of(desk: Desk, recipient: str) -> list[str]:
    """Return the texts of all letters to somebody, oldest first."""
    mine = sa.select(outbox).where(outbox.c.recipient == recipient).order_by(outbox.c.created_at)
    async with reading_async(desk.engine) as connection:
        rows = (await connection.execute(mine)).all()
    return [desk.safe.open("letters", row.message_id, row.sealed) or "" for row in rows]


async def mailed_secret(desk: Desk, recipient: str, page: str) -> str:
    """Return what the newest link to a page, in a letter to somebody, ends with."""
    found = re.findall(rf"/{page}#token=(\S+)", "\n".join(await letters_of(desk, recipient)))
    return str(found[-1])


async def audited(desk: Desk, org_id: str) -> list[str]:
    """Return what the audit log of an organisation says was done, oldest first."""
    async with reading_async(desk.engine) as connection:
        lines = sa.select(audit_log.c.action).where(audit_log.c.org_id == org_id)
        return list((await connection.execute(lines.order_by(audit_log.c.audit_id))).scalars())
