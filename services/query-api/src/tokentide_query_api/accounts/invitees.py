"""People who accept an invitation: whoever has its secret, and the e-mail address that it was sent to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import invitations, memberships, team_members, users
from tokentide_common.errors import InvalidRequest
from tokentide_common.key_directory import Role
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.principal import lower
from tokentide_query_api.accounts.standing import its_turn


async def must_be_invited(connection: AsyncConnection, secret: str, email: str, now: datetime) -> None:
    """Raise `InvalidRequest`, the same for whatever is wrong, unless the invitation is good."""
    good = _good(secret, email, now)
    if (await connection.execute(sa.select(invitations.c.invitation_id).where(*good))).first() is None:
        raise _refused()


async def accept_invitation(
    connection: AsyncConnection, secret: str, user_id: str, actor: Actor, now: datetime
) -> str:
    """Make the user of `actor` a member, and return of which organisation. Raises as `must_be_invited`.

    Who is a member already keeps their role. The transaction is one of `changing_people`.
    """
    await invitation_turn(connection, secret)
    # One statement finds it open and closes it: it is good once, also at two replicas.
    taken = sa.update(invitations).where(*_good(secret, actor.name, now)).values(accepted_at=now)
    found = await connection.execute(taken.returning(*invitations.c))
    invited = found.first()
    if invited is None:
        raise _refused()
    org_id = str(invited.org_id)
    role = await _role_given(connection, invited)
    if not await is_member(connection, org_id, user_id):
        member = {"org_id": org_id, "user_id": user_id, "role": role, "created_at": now}
        await connection.execute(sa.insert(memberships).values(member))
    if invited.team_id is not None:
        await _join_team(connection, invited.team_id, user_id)
    # Who has the secret has the mailbox.
    unverified = (users.c.user_id == user_id, users.c.email_verified_at.is_(None))
    await connection.execute(sa.update(users).where(*unverified).values(email_verified_at=now))
    on = ("invitation", invited.invitation_id)
    await audit.record(connection, org_id, actor, "invitation.accepted", on, role=role)
    return org_id


async def invitation_turn(connection: AsyncConnection, secret: str) -> None:
    """Have the acceptance of an invitation wait for who changes the organisation's members, and they for it.

    Called first in the transaction; raises `InvalidRequest` for an organisation that was closed.
    """
    whose = sa.select(invitations.c.org_id).where(invitations.c.digest == secret_digest(secret))
    org_id = (await connection.execute(whose)).scalar_one_or_none()
    if org_id is None or not await its_turn(connection, org_id):
        raise _refused()


async def _role_given(connection: AsyncConnection, invited: sa.Row[Any]) -> Role:
    """Return the role that an invitation gives: none above what who invited has by now."""
    if invited.invited_by is None:  # by the organisation itself, with a key that is nobody's
        return cast("Role", invited.role)
    theirs = (memberships.c.org_id == invited.org_id, memberships.c.user_id == invited.invited_by)
    found = await connection.execute(sa.select(memberships.c.role).where(*theirs))
    role = found.scalar_one_or_none()
    if role is None:
        raise _refused()
    return lower(invited.role, role)


async def is_member(connection: AsyncConnection, org_id: str, user_id: str) -> bool:
    """Tell whether a user belongs to an organisation."""
    mine = (memberships.c.org_id == org_id, memberships.c.user_id == user_id)
    return (await connection.execute(sa.select(memberships.c.role).where(*mine))).first() is not None


async def _join_team(connection: AsyncConnection, team_id: str, user_id: str) -> None:
    mine = (team_members.c.team_id == team_id, team_members.c.user_id == user_id)
    if (await connection.execute(sa.select(team_members.c.user_id).where(*mine))).first() is None:
        await connection.execute(sa.insert(team_members).values(team_id=team_id, user_id=user_id))


def _good(secret: str, email: str, now: datetime) -> tuple[sa.ColumnElement[Any], ...]:
    return (
        invitations.c.digest == secret_digest(secret),
        invitations.c.email == email,
        invitations.c.accepted_at.is_(None),
        invitations.c.revoked_at.is_(None),
        invitations.c.expires_at > now,
    )


def _refused() -> InvalidRequest:
    return InvalidRequest(
        "this invitation was used before, has expired, was taken back, or is for another e-mail address:"
        " ask who sent it for a new one",
        code="invalid_link",
    )
