"""Organisations: seen by their members, changed by administrators, founded by users, closed by owners."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, organizations, users
from tokentide_common.database import reading_async
from tokentide_common.errors import Conflict
from tokentide_common.key_directory import Role
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, changing_people, missing, must_be
from tokentide_query_api.accounts.closing import close_organization
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.newcomers import found_organisation, must_be_zone
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.people import Privacy
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import still_may
from tokentide_query_api.accounts.words import Label, Name

_BY_NAME: Final = Order((organizations.c.name, organizations.c.org_id))
_MOST_OWNED: Final = 20
Currency: TypeAlias = Annotated[str, msgspec.Meta(min_length=3, max_length=3, pattern="^[A-Z]{3}$")]
Plan: TypeAlias = Annotated[str, msgspec.Meta(max_length=40, pattern="^[0-9A-Za-z _.-]*$")]
Zone: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class NewOrganization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An organisation as it is asked for."""

    name: Name
    time_zone: Zone = "UTC"


class OrganizationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of an organisation; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    time_zone: Zone | msgspec.UnsetType = msgspec.UNSET
    currency: Currency | msgspec.UnsetType = msgspec.UNSET
    plan: Plan | msgspec.UnsetType = msgspec.UNSET
    privacy: Privacy | msgspec.UnsetType = msgspec.UNSET


class ListedOrganization(msgspec.Struct, frozen=True):
    """An organisation in which the caller has a role."""

    org_id: str
    name: str
    role: Role


class ShownOrganization(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation."""

    org_id: str
    name: str
    time_zone: str
    currency: str
    plan: Label
    privacy: Privacy
    created_at: datetime
    version: int


class OrganizationPage(msgspec.Struct, frozen=True):
    """A page of organisations, by name."""

    items: list[ListedOrganization]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page) -> OrganizationPage:
    """Return the organisations of a user; for a key, its own."""
    query = sa.select(organizations.c.org_id, organizations.c.name)
    if principal.kind == "user":
        belongs = memberships.c.org_id == organizations.c.org_id
        query = query.add_columns(memberships.c.role).join(memberships, belongs)
        query = query.where(memberships.c.user_id == principal.user_id)
    else:
        query = query.add_columns(sa.literal(principal.role).label("role"))
        query = query.where(organizations.c.org_id == principal.org_id)
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, query, _BY_NAME, page)
    return OrganizationPage([ListedOrganization(row.org_id, row.name, row.role) for row in rows], following)


async def one(desk: Desk, principal: Principal, org_id: str) -> ShownOrganization:
    """Return the caller's organisation. Raises `NotFound` for any other."""
    async with reading_async(desk.engine) as connection:
        return _shown(await _found(connection, principal, org_id))


async def found(desk: Desk, by: Maker, wanted: NewOrganization) -> ShownOrganization:
    """Found an organisation, of which the user becomes the owner."""
    user_id = by.principal.require_user()
    must_be_zone(wanted.time_zone)
    async with changing_people(desk) as connection:
        # Locked: of several that somebody founds at once each counts those before it.
        founder = sa.select(users.c.user_id).where(users.c.user_id == user_id)
        await connection.execute(founder.with_for_update(key_share=True))
        owned = sa.select(sa.func.count()).where(
            memberships.c.user_id == user_id, memberships.c.role == "owner"
        )
        if (await connection.execute(owned)).scalar_one() >= _MOST_OWNED:
            raise Conflict(
                f"nobody owns more than {_MOST_OWNED} organisations", code="too_many_organisations"
            )
        org_id = await found_organisation(connection, by.actor, wanted.name, wanted.time_zone, desk.clock())
        query = sa.select(organizations).where(organizations.c.org_id == org_id)
        return _shown((await connection.execute(query)).one())


async def change(
    desk: Desk, by: Maker, org_id: str, wanted: OrganizationChange, version: int | None
) -> ShownOrganization:
    """Change the caller's organisation."""
    by.principal.require("admin")
    if wanted.time_zone is not msgspec.UNSET:
        must_be_zone(wanted.time_zone)
    async with changing_people(desk) as connection:
        row = await _found(connection, by.principal, org_id, lock=True)
        must_be(row.version, version)
        given = msgspec.structs.asdict(wanted).items()
        values = {n: v for n, v in given if v is not msgspec.UNSET and row._mapping[n] != v}
        if values:
            changed = sa.update(organizations).where(organizations.c.org_id == by.org_id)
            await connection.execute(changed.values(**values, version=row.version + 1))
            on = ("organisation", org_id)
            await audit.record(connection, by.org_id, by.actor, "organisation.changed", on, **values)
        return _shown(await _found(connection, by.principal, org_id))


async def close(desk: Desk, by: Maker, org_id: str, version: int | None) -> None:
    """Close an organisation for good: an owner who is logged in may, naming the version that they see."""
    by.principal.require("owner")
    by.principal.require_user()
    async with changing_people(desk) as connection:
        row = await _found(connection, by.principal, org_id, lock=True)
        await still_may(connection, by.principal)
        must_be(row.version, version)
        await close_organization(desk, connection, by)


async def _found(
    connection: AsyncConnection, principal: Principal, org_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    if org_id != principal.org_id:  # also another of the same user: they change over to it first
        raise missing()
    mine = (organizations.c.org_id == principal.org_id, organizations.c.closed_at.is_(None))
    query = sa.select(organizations).where(*mine)
    row = (await connection.execute(query.with_for_update(key_share=True) if lock else query)).first()
    if row is None:
        raise missing()
    return row


def _shown(row: sa.Row[Any]) -> ShownOrganization:
    return ShownOrganization(**{name: row._mapping[name] for name in ShownOrganization.__struct_fields__})
