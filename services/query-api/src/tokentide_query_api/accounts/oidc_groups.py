"""What somebody's groups at an identity provider mean here: a role and teams, which follow at each login."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, team_members, teams
from tokentide_common.key_directory import Role
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.departures import take_leave
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.oidc_settings import OidcProvider
from tokentide_query_api.accounts.principal import RANK, Principal


class Login(msgspec.Struct, frozen=True):
    """A login at an identity provider: who does it, from where, and when."""

    desk: Desk
    provider: OidcProvider
    actor: Actor

    @property
    def now(self) -> datetime:
        """The time by the desk's clock."""
        return self.desk.clock()

    @property
    def maker(self) -> Maker:
        """Who makes the changes that follow: the provider, for its organisation."""
        return Maker(Principal(self.provider.organisation, "owner", "user", ""), self.actor)

    async def record(
        self, connection: AsyncConnection, action: audit.Action, on: tuple[str, str], **detail: object
    ) -> None:
        """Add to the audit log of the provider's organisation what follows from the login."""
        said = {"by": "identity_provider", "provider": self.provider.name, **detail}
        await audit.record(connection, self.provider.organisation, self.actor, action, on, **said)


def role_of(provider: OidcProvider, groups: Iterable[str]) -> Role | None:
    """Return the highest role that the groups give, else the default one; None: they do not get in."""
    given = [provider.roles[group] for group in groups if group in provider.roles]
    if given:
        return max(given, key=RANK.__getitem__)
    return provider.default_role or None


async def follow_role(connection: AsyncConnection, login: Login, user_id: str, groups: Iterable[str]) -> bool:
    """Give a user the role of their groups, or take it away; tell whether they are a member now.

    It is the organisation's turn, as with members who are changed by hand: of two owners who lose their
    groups at once one is the last.
    """
    provider = login.provider
    mine = (memberships.c.org_id == provider.organisation, memberships.c.user_id == user_id)
    current = (await connection.execute(sa.select(memberships.c.role).where(*mine))).scalar_one_or_none()
    if not provider.gives_roles:
        return current is not None
    wanted = role_of(provider, groups)
    if wanted == current:
        return current is not None
    if current == "owner" and await _is_last_owner(connection, provider.organisation):
        return True  # no group that was emptied by mistake leaves an organisation without an owner
    if wanted is None:
        await take_leave(login.desk, connection, login.maker, user_id)
        return False
    if current is None:
        row = {"org_id": provider.organisation, "user_id": user_id, "role": wanted, "created_at": login.now}
        await connection.execute(sa.insert(memberships).values(row))
    else:
        changed = {"role": wanted, "version": memberships.c.version + 1}
        await connection.execute(sa.update(memberships).where(*mine).values(changed))
    action: audit.Action = "member.added" if current is None else "member.changed"
    await login.record(connection, action, ("user", user_id), role=wanted, before=current or "")
    return True


async def follow_teams(
    connection: AsyncConnection, login: Login, user_id: str, groups: frozenset[str]
) -> None:
    """Put a user into the teams of their groups and out of the other teams that groups decide about."""
    wanted = {team for group, team in login.provider.teams.items() if group in groups}
    ids = await _team_ids(connection, login, wanted)
    within = (team_members.c.user_id == user_id, team_members.c.team_id.in_(ids.values()))
    found = await connection.execute(sa.select(team_members.c.team_id).where(*within))
    current = set(found.scalars())
    target = {ids[name] for name in wanted}
    for team_id in sorted(target - current):
        await connection.execute(sa.insert(team_members).values(team_id=team_id, user_id=user_id))
    gone = sorted(current - target)
    left = (team_members.c.user_id == user_id, team_members.c.team_id.in_(gone))
    await connection.execute(sa.delete(team_members).where(*left))
    for team_id in sorted(target - current):
        await login.record(connection, "team.joined", ("team", team_id), user_id=user_id)
    for team_id in gone:
        await login.record(connection, "team.left", ("team", team_id), user_id=user_id)


async def _team_ids(connection: AsyncConnection, login: Login, wanted: set[str]) -> dict[str, str]:
    """Return the ids of all teams that groups decide about; those that are wanted and not there are made."""
    provider = login.provider
    named = (teams.c.org_id == provider.organisation, teams.c.name.in_(set(provider.teams.values())))
    found = await connection.execute(sa.select(teams.c.name, teams.c.team_id).where(*named))
    ids = {row.name: row.team_id for row in found}
    for name in sorted(wanted - ids.keys()):
        ids[name] = f"team_{uuid.uuid4().hex}"
        row = {"team_id": ids[name], "org_id": provider.organisation, "name": name, "created_at": login.now}
        await connection.execute(sa.insert(teams).values(row))
        await login.record(connection, "team.created", ("team", ids[name]), name=name)
    return ids


async def _is_last_owner(connection: AsyncConnection, org_id: str) -> bool:
    owners = sa.select(sa.func.count()).where(memberships.c.org_id == org_id, memberships.c.role == "owner")
    return int((await connection.execute(owners)).scalar_one()) < 2
