"""What ends when somebody leaves an organisation, all in one transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import (
    api_keys,
    device_logins,
    invitations,
    memberships,
    team_members,
    teams,
    users,
)
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.keys import revoke_all
from tokentide_query_api.accounts.sessions import end_sessions_of


async def take_leave(desk: Desk, connection: AsyncConnection, by: Maker, user_id: str) -> None:
    """End a membership whose row the caller has locked: teams, sessions, logins on their way, and keys."""
    org_id, now = by.org_id, desk.clock()
    teams_of = sa.select(teams.c.team_id).where(teams.c.org_id == org_id)
    in_teams = (team_members.c.user_id == user_id, team_members.c.team_id.in_(teams_of))
    await connection.execute(sa.delete(team_members).where(*in_teams))
    mine = (memberships.c.org_id == org_id, memberships.c.user_id == user_id)
    await connection.execute(sa.delete(memberships).where(*mine))
    # What would let them in again, or whom they like, or give them a key, a moment later.
    await connection.execute(
        sa.update(device_logins)
        .where(device_logins.c.org_id == org_id, device_logins.c.user_id == user_id)
        .where(device_logins.c.used_at.is_(None))
        .values(approved=False)
    )
    email = sa.select(users.c.email).where(users.c.user_id == user_id).scalar_subquery()
    await connection.execute(
        sa.update(invitations)
        .where(invitations.c.org_id == org_id)
        .where(sa.or_(invitations.c.email == email, invitations.c.invited_by == user_id))
        .where(invitations.c.accepted_at.is_(None), invitations.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    await end_sessions_of(connection, user_id, now, org_id=org_id)
    revoked = await revoke_all(desk, connection, by, [api_keys.c.owner_id == user_id])
    on = ("user", user_id)
    await audit.record(connection, org_id, by.actor, "member.removed", on, keys_revoked=revoked)
