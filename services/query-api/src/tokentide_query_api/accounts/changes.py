"""One change of accounts: who makes it, in which transaction, and who hears of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from litestar import Request
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts import next_revision
from tokentide_common.database import writing_async
from tokentide_common.errors import NotFound, Unavailable
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.desk import Desk, actor_of, people_changed
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.versions import outdated

_ID: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class Maker(msgspec.Struct, frozen=True):
    """Who makes a change: what they may do, and how the audit log calls them."""

    principal: Principal
    actor: Actor

    @property
    def org_id(self) -> str:
        """The organisation in which everything happens: that of the credentials."""
        return self.principal.org_id


async def maker_of(desk: Desk, request: Request[Any, Any, Any]) -> Maker:
    """Return who makes a change by a request; raises `Unauthorized`, `Forbidden`, `Unavailable`."""
    principal = await desk.admit(request)
    return Maker(principal, actor_of(principal, request))


@contextlib.asynccontextmanager
async def changing_keys(desk: Desk) -> AsyncIterator[AsyncConnection]:
    """A transaction that changes keys; this replica knows it at once, the others when they look."""
    async with writing_async(desk.engine) as connection:
        yield connection
    # It is done, so nobody is told that it failed: with the database away now it is heard of later.
    with contextlib.suppress(Unavailable):
        await desk.keys.refresh()


@contextlib.asynccontextmanager
async def changing_people(desk: Desk) -> AsyncIterator[AsyncConnection]:
    """A transaction that changes people, organisations or sessions, and perhaps their keys too."""
    async with changing_keys(desk) as connection:
        yield connection
        await people_changed(connection)
    with contextlib.suppress(Unavailable):
        await desk.people.refresh()


async def keys_revision(connection: AsyncConnection) -> int:
    """Return the `revision` of the keys that this transaction changes.

    Ask when their rows are locked, never before: whoever holds the number must wait for nobody.
    """
    return await connection.run_sync(lambda sync: next_revision(sync, "keys"))


def checked_id(text: str) -> str:
    """Return what can be an id; raises `NotFound` for what no database need be asked for."""
    if _ID.fullmatch(text) is None:
        raise missing()
    return text


def missing() -> NotFound:
    """Return the one refusal of what does not exist, belongs to others, or is not for the caller's eyes."""
    return NotFound("there is no such thing in your organisation")


def must_be(version: int, wanted: int | None) -> None:
    """Raise `Conflict` (412) unless a change is for this version. The caller holds the row's lock."""
    if wanted is not None and wanted != version:
        raise outdated()
