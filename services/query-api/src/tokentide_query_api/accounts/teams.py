"""Teams of an organisation and who is in them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import invitations, memberships, team_members, teams
from tokentide_common.database import insert_or, reading_async, writing_async
from tokentide_common.errors import Conflict
from tokentide_query_api.accounts import audit, members
from tokentide_query_api.accounts.bounds import room_for_team
from tokentide_query_api.accounts.changes import Maker, checked_id, missing, must_be
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import its_turn
from tokentide_query_api.accounts.words import Label, Name

_BY_NAME: Final = Order((teams.c.name, teams.c.team_id))


class NewTeam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team as it is asked for."""

    name: Name
    department: Label = ""


class TeamChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of a team; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    department: Label | msgspec.UnsetType = msgspec.UNSET


class ShownTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A team."""

    team_id: str
    name: str
    department: str
    created_at: datetime
    version: int


class TeamPage(msgspec.Struct, frozen=True):
    """A page of teams, by name."""

    items: list[ShownTeam]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page) -> TeamPage:
    """Return a page of the organisation's teams."""
    principal.require("member")
    async with reading_async(desk.engine) as connection:
        query = sa.select(teams).where(teams.c.org_id == principal.org_id)
        rows, following = await page_of_rows(connection, query, _BY_NAME, page)
    return TeamPage([_shown(row) for row in rows], following)


async def one(desk: Desk, principal: Principal, team_id: str) -> ShownTeam:
    """Return a team. Raises `NotFound`."""
    principal.require("member")
    async with reading_async(desk.engine) as connection:
        return _shown(await _found(connection, principal.org_id, team_id))


async def create(desk: Desk, by: Maker, wanted: NewTeam) -> ShownTeam:
    """Add a team. Raises `Conflict` for a name that another has."""
    by.principal.require("admin")
    team_id = f"team_{uuid.uuid4().hex}"
    row = {"team_id": team_id, "org_id": by.org_id, "created_at": desk.clock()}
    try:
        async with writing_async(desk.engine) as connection:
            if not await its_turn(connection, by.org_id):
                raise missing()
            await room_for_team(connection, by.org_id)
            await connection.execute(sa.insert(teams).values(row | msgspec.structs.asdict(wanted)))
            on = ("team", team_id)
            await audit.record(connection, by.org_id, by.actor, "team.created", on, name=wanted.name)
            return _shown(await _found(connection, by.org_id, team_id))
    except IntegrityError as exc:
        raise _taken() from exc


async def change(desk: Desk, by: Maker, team_id: str, wanted: TeamChange, version: int | None) -> ShownTeam:
    """Change a team. Raises `NotFound`, and `Conflict` for its version or its name."""
    by.principal.require("admin")
    try:
        async with writing_async(desk.engine) as connection:
            row = await _found(connection, by.org_id, team_id, lock=True)
            must_be(row.version, version)
            given = msgspec.structs.asdict(wanted).items()
            values = {n: v for n, v in given if v is not msgspec.UNSET and row._mapping[n] != v}
            if values:
                changed = sa.update(teams).where(teams.c.team_id == team_id)
                await connection.execute(changed.values(**values, version=row.version + 1))
                on = ("team", team_id)
                await audit.record(
                    connection, by.org_id, by.actor, "team.changed", on, changed=sorted(values)
                )
            return _shown(await _found(connection, by.org_id, team_id))
    except IntegrityError as exc:
        raise _taken() from exc


async def remove(desk: Desk, by: Maker, team_id: str) -> None:
    """Remove a team; its members stay in the organisation. Raises `NotFound`."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        row = await _found(connection, by.org_id, team_id, lock=True)
        await connection.execute(sa.delete(team_members).where(team_members.c.team_id == team_id))
        invited = sa.update(invitations).where(invitations.c.team_id == team_id)
        await connection.execute(invited.values(team_id=None))
        await connection.execute(sa.delete(teams).where(teams.c.team_id == team_id))
        on = ("team", team_id)
        await audit.record(connection, by.org_id, by.actor, "team.removed", on, name=row.name)


async def people_of(desk: Desk, principal: Principal, team_id: str, page: Page) -> members.MemberPage:
    """Return a page of a team's members, as far as the caller may see them."""
    await one(desk, principal, team_id)
    inside = sa.select(team_members.c.user_id).where(team_members.c.team_id == team_id)
    query = members.members_query().where(memberships.c.user_id.in_(inside))
    return await members.listed(desk, principal, page, query)


async def add_person(desk: Desk, by: Maker, team_id: str, user_id: str) -> None:
    """Put a member into a team; they may be in it already. Raises `NotFound`."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        await _found(connection, by.org_id, team_id, lock=True)
        # Locked: who leaves the organisation at this moment is not left behind in a team.
        mine = (memberships.c.org_id == by.org_id, memberships.c.user_id == checked_id(user_id))
        member = sa.select(memberships.c.user_id).where(*mine).with_for_update(read=True)
        if (await connection.execute(member)).first() is None:
            raise missing()
        row = {"team_id": team_id, "user_id": user_id}
        added = insert_or(desk.engine.sync_engine, team_members).values(row).on_conflict_do_nothing()
        if (await connection.execute(added.returning(team_members.c.user_id))).first() is not None:
            on = ("team", team_id)
            await audit.record(connection, by.org_id, by.actor, "team.joined", on, user_id=user_id)


async def take_out(desk: Desk, by: Maker, team_id: str, user_id: str) -> None:
    """Take a member out of a team; they may be out already. Raises `NotFound` for no such team."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        await _found(connection, by.org_id, team_id, lock=True)
        mine = (team_members.c.team_id == team_id, team_members.c.user_id == checked_id(user_id))
        if (await connection.execute(sa.delete(team_members).where(*mine))).rowcount:
            on = ("team", team_id)
            await audit.record(connection, by.org_id, by.actor, "team.left", on, user_id=user_id)


def _shown(row: sa.Row[Any]) -> ShownTeam:
    return ShownTeam(**{name: row._mapping[name] for name in ShownTeam.__struct_fields__})


async def _found(
    connection: AsyncConnection, org_id: str, team_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    query = sa.select(teams).where(teams.c.org_id == org_id, teams.c.team_id == checked_id(team_id))
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise missing()
    return row


def _taken() -> Conflict:
    return Conflict("another team has this name", code="name_taken")
