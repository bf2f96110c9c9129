"""Keys of an organisation: issued, listed, changed and revoked."""

from __future__ import annotations

import uuid
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import api_keys, machines, memberships, users
from tokentide_common.database import reading_async
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest
from tokentide_common.key_directory import Role
from tokentide_common.keys import KeyKind, mint_key
from tokentide_query_api.accounts import audit, key_rules
from tokentide_query_api.accounts.bounds import keys_within_bounds
from tokentide_query_api.accounts.changes import (
    Maker,
    changing_keys,
    checked_id,
    keys_revision,
    missing,
    must_be,
)
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_shapes import IssuedKey, KeyChange, KeyPage, NewKey, ShownKey, shown_key
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import still_may

_NEWEST_FIRST: Final = Order((api_keys.c.created_at, api_keys.c.key_id), newest_first=True)
_STAMPED: Final = ("machine_id", "project", "team", "department")


async def issue(desk: Desk, by: Maker, wanted: NewKey) -> IssuedKey:
    """Issue a key and return it; this is the only time that it is seen."""
    principal, now = by.principal, desk.clock()
    principal.require("member")
    owner = key_rules.owner_of_new(
        principal, wanted.owner_id or None, said=wanted.owner_id is not msgspec.UNSET
    )
    secret, digest = mint_key(wanted.kind)
    row: dict[str, Any] = {
        "key_id": f"key_{uuid.uuid4().hex}",
        "org_id": by.org_id,
        "kind": wanted.kind,
        "digest": digest,
        "name": wanted.name,
        "role": key_rules.role_of_new(principal, wanted.kind, wanted.role),
        "scopes": key_rules.scopes_of(principal, wanted.kind, wanted.scopes),
        "owner_id": owner,
        "created_at": now,
        "expires_at": key_rules.expiry_of(wanted.expires_at, now),
        **{name: getattr(wanted, name) for name in _STAMPED},
    }
    async with changing_keys(desk) as connection:
        row["expires_at"] = key_rules.within(row["expires_at"], await still_may(connection, principal))
        own_email = await _email_of_owner(connection, principal, owner)
        given = own_email if wanted.user_email is None and wanted.kind != "a" else wanted.user_email or ""
        row |= await _person(connection, principal, given)
        await _not_of_another(connection, principal, wanted.machine_id)
        row["revision"] = await keys_revision(connection)
        await connection.execute(sa.insert(api_keys).values(row))
        await keys_within_bounds(connection, by.org_id, owner, now)
        facts = {name: row[name] for name in ("kind", "name", "role", "scopes", "owner_id", "expires_at")}
        await audit.record(connection, by.org_id, by.actor, "key.issued", ("key", row["key_id"]), **facts)
        shown = shown_key(await _found(connection, principal, row["key_id"]))
    return IssuedKey(**msgspec.structs.asdict(shown), key=secret)


async def listed(
    desk: Desk, principal: Principal, page: Page, kind: KeyKind | None, *, revoked: bool
) -> KeyPage:
    """Return a page of the keys that the caller may see, newest first."""
    principal.require("member")
    query = sa.select(api_keys).where(*_visible(principal))
    if kind is not None:
        query = query.where(api_keys.c.kind == kind)
    if not revoked:
        query = query.where(api_keys.c.revoked_at.is_(None))
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, query, _NEWEST_FIRST, page)
    return KeyPage([shown_key(row) for row in rows], following)


async def one(desk: Desk, principal: Principal, key_id: str) -> ShownKey:
    """Return a key. Raises `NotFound`."""
    principal.require("member")
    async with reading_async(desk.engine) as connection:
        return shown_key(await _found(connection, principal, key_id))


async def change(desk: Desk, by: Maker, key_id: str, wanted: KeyChange, version: int | None) -> ShownKey:
    """Change a key. Raises `NotFound`, `Conflict`, and `Forbidden` for what is above the caller's role."""
    principal = by.principal
    principal.require("member")
    async with changing_keys(desk) as connection:
        row = await _found(connection, principal, key_id, lock=True)
        must_be(row.version, version)
        if row.revoked_at is not None:
            raise Conflict("a revoked key is not changed any more", code="key_revoked")
        await _may_change(connection, principal, row)
        until = await still_may(connection, principal)
        values = await _changed(desk, connection, principal, row, wanted)
        if "expires_at" in values:
            values["expires_at"] = key_rules.within(values["expires_at"], until)
        if values:
            values |= {"version": row.version + 1, "revision": await keys_revision(connection)}
            await connection.execute(sa.update(api_keys).where(api_keys.c.key_id == key_id).values(values))
            names = sorted(set(values) - {"version", "revision"})
            on = ("key", key_id)
            await audit.record(connection, by.org_id, by.actor, "key.changed", on, changed=names)
        return shown_key(await _found(connection, principal, key_id))


async def revoke(desk: Desk, by: Maker, key_id: str) -> None:
    """Revoke a key for good; it may be revoked already. Raises `NotFound`."""
    by.principal.require("member")
    async with changing_keys(desk) as connection:
        row = await _found(connection, by.principal, key_id, lock=True)
        if row.revoked_at is None:
            await revoke_all(desk, connection, by, [api_keys.c.key_id == key_id])


async def revoke_all(
    desk: Desk, connection: AsyncConnection, by: Maker, which: list[sa.ColumnElement[bool]]
) -> int:
    """Revoke the organisation's live keys of which all of `which` is true, in the caller's transaction."""
    live = [api_keys.c.org_id == by.org_id, api_keys.c.revoked_at.is_(None), *which]
    # Locked in one order before the number is taken: two who revoke the same keys wait, and never deadlock.
    locked = sa.select(api_keys.c.key_id).where(*live).order_by(api_keys.c.key_id).with_for_update()
    ids = [key_id for (key_id,) in await connection.execute(locked)]
    if not ids:
        return 0
    revision = await keys_revision(connection)
    ended = {"revoked_at": desk.clock(), "revision": revision, "version": api_keys.c.version + 1}
    await connection.execute(sa.update(api_keys).where(api_keys.c.key_id.in_(ids)).values(ended))
    for key_id in ids:
        await audit.record(connection, by.org_id, by.actor, "key.revoked", ("key", key_id))
    return len(ids)


def _visible(principal: Principal) -> list[sa.ColumnElement[bool]]:
    mine = [api_keys.c.org_id == principal.org_id]
    if not principal.at_least("admin"):
        # A key that is nobody's sees no keys: an empty id is nobody's id.
        mine.append(api_keys.c.owner_id == principal.user_id if principal.user_id else sa.false())
    return mine


async def _found(
    connection: AsyncConnection, principal: Principal, key_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    query = sa.select(api_keys).where(api_keys.c.key_id == checked_id(key_id), *_visible(principal))
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise missing()
    return row


async def _may_change(connection: AsyncConnection, principal: Principal, row: sa.Row[Any]) -> None:
    """Raise `Forbidden` for a key that is an owner's, or can do what only an owner may, unless they ask."""
    if row.kind == "a":
        key_rules.not_above(principal, row.role)
    if row.owner_id is not None and row.owner_id != principal.user_id:
        _, role = await _member(connection, principal.org_id, row.owner_id)
        key_rules.not_above(principal, role)


async def _changed(
    desk: Desk, connection: AsyncConnection, principal: Principal, row: sa.Row[Any], wanted: KeyChange
) -> dict[str, Any]:
    """Return the columns that a change gives another value."""
    values: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not msgspec.UNSET
    }
    if "role" in values:
        values["role"] = key_rules.role_of_new(principal, row.kind, values["role"])
    if "scopes" in values:
        values["scopes"] = key_rules.scopes_of(principal, row.kind, values["scopes"])
    if "expires_at" in values:
        values["expires_at"] = key_rules.expiry_of(values["expires_at"], desk.clock())
    if "user_email" in values:
        values |= await _person(connection, principal, values["user_email"])
    if "machine_id" in values:
        await _not_of_another(connection, principal, values["machine_id"])
    return {name: value for name, value in values.items() if row._mapping[name] != value}


async def _email_of_owner(connection: AsyncConnection, principal: Principal, owner: str | None) -> str:
    """Return the e-mail of a new key's owner, who is a member and no more than the caller."""
    if owner is None:
        return ""
    email, role = await _member(connection, principal.org_id, owner)
    if owner != principal.user_id:
        key_rules.not_above(principal, role)
    return email


async def _member(connection: AsyncConnection, org_id: str, user_id: str) -> tuple[str, Role]:
    """Return e-mail and role of a member, who stays one until the transaction ends.

    So a key is either made before its owner is removed, and revoked then, or not made.
    """
    member = (
        sa.select(users.c.email, memberships.c.role)
        .join(users, users.c.user_id == memberships.c.user_id)
        .where(memberships.c.org_id == org_id, memberships.c.user_id == user_id)
        .with_for_update(read=True, of=memberships)
    )
    row = (await connection.execute(member)).first()
    if row is None:
        raise InvalidRequest("the owner is no member", fields={"owner_id": "no member of the organisation"})
    return str(row.email), cast("Role", row.role)


async def _person(connection: AsyncConnection, principal: Principal, email: str) -> dict[str, str]:
    """Return for whom a key's calls count: an address, and the member who has it."""
    given = email.lower()
    key_rules.attributes_to(principal, given)
    # Only members: whether an address is known to another organisation is nobody's business.
    member = (
        sa.select(users.c.user_id)
        .join(memberships, memberships.c.user_id == users.c.user_id)
        .where(memberships.c.org_id == principal.org_id, users.c.email == given)
    )
    user_id = (await connection.execute(member)).scalar_one_or_none()
    return {"user_email": given, "user_id": user_id or ""}


async def _not_of_another(connection: AsyncConnection, principal: Principal, machine_id: str) -> None:
    """Raise `Forbidden` when a member's key would speak for somebody else's machine."""
    if not machine_id or principal.at_least("admin"):
        return
    mine = (machines.c.org_id == principal.org_id, machines.c.machine_id == machine_id)
    owner = (await connection.execute(sa.select(machines.c.user_id).where(*mine))).scalar_one_or_none()
    if owner is not None and owner != principal.user_id:
        raise Forbidden("a member's keys stand for nobody else", code="attribution_not_allowed")
