"""Machines that push usage: named, given to somebody, forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import api_keys, machines, memberships
from tokentide_common.database import reading_async
from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, changing_keys, missing, must_be
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.keys import revoke_all
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.words import Id, Label

_BY_ID: Final = Order((machines.c.machine_id,))
_LONGEST_ID: Final = 200


class MachineChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of a machine; what is absent stays."""

    name: Label | msgspec.UnsetType = msgspec.UNSET
    user_id: Id | msgspec.UnsetType | None = msgspec.UNSET
    """Whose it is; null: nobody's."""


class ShownMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine."""

    machine_id: str
    name: str
    user_id: str | None
    cli_version: str
    first_seen_at: datetime
    last_seen_at: datetime
    version: int


class MachinePage(msgspec.Struct, frozen=True):
    """A page of machines."""

    items: list[ShownMachine]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page) -> MachinePage:
    """Return a page of the machines that the caller may see."""
    principal.require("member")
    async with reading_async(desk.engine) as connection:
        query = sa.select(machines).where(*_visible(principal))
        rows, following = await page_of_rows(connection, query, _BY_ID, page)
    return MachinePage([_shown(row) for row in rows], following)


async def one(desk: Desk, principal: Principal, machine_id: str) -> ShownMachine:
    """Return a machine. Raises `NotFound`."""
    principal.require("member")
    async with reading_async(desk.engine) as connection:
        return _shown(await _found(connection, principal, machine_id))


async def change(
    desk: Desk, by: Maker, machine_id: str, wanted: MachineChange, version: int | None
) -> ShownMachine:
    """Change a machine; whose it is, administrators say."""
    by.principal.require("member")
    async with changing_keys(desk) as connection:
        row = await _found(connection, by.principal, machine_id, lock=True)
        must_be(row.version, version)
        given = msgspec.structs.asdict(wanted).items()
        values = {n: v for n, v in given if v is not msgspec.UNSET and row._mapping[n] != v}
        if "user_id" in values:
            by.principal.require("admin")
            await _must_be_member(connection, by.org_id, values["user_id"])
        if values:
            changed = sa.update(machines).where(*_named(by.org_id, machine_id))
            await connection.execute(changed.values(**values, version=row.version + 1))
            on, names = ("machine", machine_id), sorted(values)
            await audit.record(connection, by.org_id, by.actor, "machine.changed", on, changed=names)
        return _shown(await _found(connection, by.principal, machine_id))


async def remove(desk: Desk, by: Maker, machine_id: str) -> None:
    """Forget a machine and revoke the keys that it pushes and asks with. Raises `NotFound`.

    What it has pushed stays.
    """
    by.principal.require("member")
    async with changing_keys(desk) as connection:
        await _found(connection, by.principal, machine_id, lock=True)
        await connection.execute(sa.delete(machines).where(*_named(by.org_id, machine_id)))
        its_keys = [api_keys.c.kind.in_(("m", "a")), api_keys.c.machine_id == machine_id]
        if not by.principal.at_least("admin"):
            its_keys.append(api_keys.c.owner_id == by.principal.user_id)
        revoked = await revoke_all(desk, connection, by, its_keys)
        on = ("machine", machine_id)
        await audit.record(connection, by.org_id, by.actor, "machine.removed", on, keys_revoked=revoked)


def _visible(principal: Principal) -> list[sa.ColumnElement[bool]]:
    mine = [machines.c.org_id == principal.org_id]
    if not principal.at_least("admin"):
        mine.append(machines.c.user_id == principal.user_id if principal.user_id else sa.false())
    return mine


def _named(org_id: str, machine_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return machines.c.org_id == org_id, machines.c.machine_id == machine_id


async def _found(
    connection: AsyncConnection, principal: Principal, machine_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    # Machines name themselves: an id is any text that the database can keep.
    if len(machine_id) > _LONGEST_ID or "\0" in machine_id:
        raise missing()
    query = sa.select(machines).where(machines.c.machine_id == machine_id, *_visible(principal))
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise missing()
    return row


async def _must_be_member(connection: AsyncConnection, org_id: str, user_id: str | None) -> None:
    mine = (memberships.c.org_id == org_id, memberships.c.user_id == user_id)
    found = sa.select(memberships.c.user_id).where(*mine)
    if user_id is not None and (await connection.execute(found)).first() is None:
        raise InvalidRequest("not a member", fields={"user_id": "no member of the organisation"})


def _shown(row: sa.Row[Any]) -> ShownMachine:
    return ShownMachine(**{name: row._mapping[name] for name in ShownMachine.__struct_fields__})
