"""The keys of a machine whose login was approved: one to push usage, one to read."""

from __future__ import annotations

import math
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts import key_row
from tokentide_common.accounts_schema import api_keys, machines, memberships, organizations, users
from tokentide_common.database import insert_or
from tokentide_common.key_directory import KeyRecord
from tokentide_common.keys import KeyKind, mint_key
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.auth_shapes import DeviceKeys, ShownOrganisation
from tokentide_query_api.accounts.bounds import keys_within_bounds
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_rules import within
from tokentide_query_api.accounts.login import Visitor
from tokentide_query_api.accounts.whoami import shown_user

_KINDS: Final[tuple[KeyKind, ...]] = ("m", "a")
API_KEY_LIFETIME: Final = timedelta(days=365)
"""A machine asks with the same key for a year; then it logs in again. What it pushes with does not end."""


async def device_keys(
    desk: Desk, connection: AsyncConnection, login: sa.Row[Any], visitor: Visitor, now: datetime
) -> DeviceKeys | None:
    """Issue the keys of an approved login, in the transaction that makes it void.

    None: who approved it is no member any more, or only looks on. The keys are the user's: they never do
    more than the user may, and their calls count as the user's unless they say otherwise.
    """
    owner = await _owner(connection, login.org_id, login.user_id)
    if owner is None:
        return None
    await _know_machine(desk, connection, login, now)
    secrets: dict[KeyKind, str] = {}
    ids: dict[KeyKind, str] = {}
    for kind in _KINDS:
        record = _record(kind, login, owner.email, now)
        secrets[kind], ids[kind] = await connection.run_sync(_issued, record), record.key_id
        actor, on = visitor.actor(login.user_id, owner.email), ("key", record.key_id)
        facts = {"kind": kind, "name": record.name, "role": record.role, "machine_id": login.machine_id}
        await audit.record(connection, login.org_id, actor, "key.issued", on, **facts)
    await keys_within_bounds(connection, login.org_id, login.user_id, now)
    return DeviceKeys(
        machine_key=secrets["m"],
        machine_key_id=ids["m"],
        api_key=secrets["a"],
        api_key_id=ids["a"],
        organisation=ShownOrganisation(login.org_id, owner.name),
        user=shown_user(owner),
    )


async def _owner(connection: AsyncConnection, org_id: str, user_id: str) -> sa.Row[Any] | None:
    """Return the user with organisation and role; a member until the transaction ends."""
    found = (
        sa.select(users, organizations.c.name, memberships.c.role)
        .join(memberships, memberships.c.user_id == users.c.user_id)
        .join(organizations, organizations.c.org_id == memberships.c.org_id)
        .where(memberships.c.org_id == org_id, users.c.user_id == user_id)
    )
    row = (await connection.execute(found.with_for_update(of=memberships))).first()
    return None if row is None or row.role == "viewer" else row


async def _know_machine(desk: Desk, connection: AsyncConnection, login: sa.Row[Any], now: datetime) -> None:
    insert = insert_or(desk.engine.sync_engine, machines).values(
        org_id=login.org_id,
        machine_id=login.machine_id,
        name=login.machine_name,
        user_id=login.user_id,
        first_seen_at=now,
        last_seen_at=now,
    )
    nobodys = sa.or_(machines.c.user_id.is_(None), machines.c.user_id == login.user_id)
    named = {"name": login.machine_name or machines.c.name, "user_id": login.user_id, "last_seen_at": now}
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=["org_id", "machine_id"],
            set_={**named, "version": machines.c.version + 1},
            where=nobodys,
        )
    )


def _record(kind: KeyKind, login: sa.Row[Any], email: str, now: datetime) -> KeyRecord:
    until = within(now + API_KEY_LIFETIME if kind == "a" else None, login.keys_until)
    return KeyRecord(
        key_id=f"key_{uuid.uuid4().hex}",
        org_id=login.org_id,
        kind=kind,
        name=login.machine_name or login.machine_id,
        user_id=login.user_id,
        user_email=email,
        machine_id=login.machine_id,
        # Enough for one's own affairs; who administers makes a key for that.
        role="member" if kind == "a" else "viewer",
        owner_id=login.user_id,
        expires_at=math.inf if until is None else until.timestamp(),
    )


def _issued(connection: Connection, record: KeyRecord) -> str:
    secret, digest = mint_key(record.kind)
    connection.execute(sa.insert(api_keys).values(**key_row(record, digest, connection)))
    return secret
