"""Members of an organisation: seen, given another role, removed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, users
from tokentide_common.database import reading_async
from tokentide_common.errors import Conflict
from tokentide_common.key_directory import Role
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, changing_people, checked_id, missing, must_be
from tokentide_query_api.accounts.departures import take_leave
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_rules import not_above
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import its_turn, still_may

# By what every caller sees: a cursor tells its last row's place.
BY_NAME: Final = Order((users.c.display_name, memberships.c.user_id))


class ShownMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member. The e-mail address is for administrators, and for themselves."""

    user_id: str
    display_name: str
    email: str | None
    role: Role
    joined_at: datetime
    version: int


class MemberPage(msgspec.Struct, frozen=True):
    """A page of members, by name."""

    items: list[ShownMember]
    next_cursor: str | None


class RoleChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another role for a member."""

    role: Role


async def listed(
    desk: Desk, principal: Principal, page: Page, query: sa.Select[Any] | None = None
) -> MemberPage:
    """Return a page of the members that the caller may see; `query` may ask for some of them."""
    async with reading_async(desk.engine) as connection:
        wanted = (members_query() if query is None else query).where(*_visible(desk, principal))
        rows, following = await page_of_rows(connection, wanted, BY_NAME, page)
    return MemberPage([_shown(principal, row) for row in rows], following)


async def one(desk: Desk, principal: Principal, user_id: str) -> ShownMember:
    """Return a member. Raises `NotFound`."""
    async with reading_async(desk.engine) as connection:
        query = members_query().where(
            memberships.c.user_id == checked_id(user_id), *_visible(desk, principal)
        )
        row = (await connection.execute(query)).first()
    if row is None:
        raise missing()
    return _shown(principal, row)


async def change_role(desk: Desk, by: Maker, user_id: str, role: Role, version: int | None) -> ShownMember:
    """Give a member another role: nobody above their own, and none to whoever is above them."""
    by.principal.require("admin")
    async with changing_people(desk) as connection:
        row = await _locked(connection, by.org_id, user_id)
        await still_may(connection, by.principal)
        must_be(row.version, version)
        not_above(by.principal, row.role)
        not_above(by.principal, role)
        if row.role == "owner" != role:
            await _must_not_be_last(connection, by.org_id)
        if row.role != role:
            mine = (memberships.c.org_id == by.org_id, memberships.c.user_id == user_id)
            values = {"role": role, "version": row.version + 1}
            await connection.execute(sa.update(memberships).where(*mine).values(values))
            on, detail = ("user", user_id), {"role": role, "before": row.role}
            await audit.record(connection, by.org_id, by.actor, "member.changed", on, **detail)
    return await one(desk, by.principal, user_id)


async def remove(desk: Desk, by: Maker, user_id: str) -> None:
    """End a membership, with the keys and sessions that came with it: of a member, or of the caller."""
    if user_id != by.principal.user_id:
        by.principal.require("admin")
    async with changing_people(desk) as connection:
        row = await _locked(connection, by.org_id, user_id)
        await still_may(connection, by.principal)
        not_above(by.principal, row.role)
        if row.role == "owner":
            await _must_not_be_last(connection, by.org_id)
        await take_leave(desk, connection, by, user_id)


def members_query() -> sa.Select[Any]:
    """Return the query of members of all organisations; add whose."""
    return sa.select(
        *(memberships.c[name] for name in ("user_id", "role", "created_at", "version")),
        *(users.c.display_name, users.c.email),
    ).join(users, users.c.user_id == memberships.c.user_id)


def _visible(desk: Desk, principal: Principal) -> list[sa.ColumnElement[bool]]:
    mine: list[sa.ColumnElement[bool]] = [memberships.c.org_id == principal.org_id]
    organization = desk.people.organization(principal.org_id)
    is_open = organization is not None and organization.privacy == "open"
    if not principal.at_least("admin") and not (is_open and principal.at_least("member")):
        mine.append(memberships.c.user_id == principal.user_id)
    return mine


def _shown(principal: Principal, row: sa.Row[Any]) -> ShownMember:
    knows = principal.at_least("admin") or row.user_id == principal.user_id
    return ShownMember(
        user_id=row.user_id,
        display_name=row.display_name,
        email=row.email if knows else None,
        role=row.role,
        joined_at=row.created_at,
        version=row.version,
    )


async def _locked(connection: AsyncConnection, org_id: str, user_id: str) -> sa.Row[Any]:
    """Return a membership that only this transaction changes."""
    # An organisation's members change one after another: of two owners who go at once one is the last.
    await its_turn(connection, org_id)
    mine = (memberships.c.org_id == org_id, memberships.c.user_id == checked_id(user_id))
    row = (await connection.execute(sa.select(memberships).where(*mine).with_for_update())).first()
    if row is None:
        raise missing()
    return row


async def _must_not_be_last(connection: AsyncConnection, org_id: str) -> None:
    owners = sa.select(sa.func.count()).where(memberships.c.org_id == org_id, memberships.c.role == "owner")
    if (await connection.execute(owners)).scalar_one() < 2:
        raise Conflict("the last owner stays: make another one first", code="last_owner")
