"""Invitations to an organisation: sent by letter, listed, taken back."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import invitations, memberships, teams, users
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Conflict, InvalidRequest, RateLimited
from tokentide_common.key_directory import Role
from tokentide_query_api.accounts import audit, letters
from tokentide_query_api.accounts.bounds import room_for_invitation
from tokentide_query_api.accounts.changes import Maker, checked_id, missing
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_rules import not_above
from tokentide_query_api.accounts.lockout import count_attempt
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import its_turn, still_may
from tokentide_query_api.accounts.words import Email, Id

_LIFETIME: Final = timedelta(days=7)
_NEWEST_FIRST: Final = Order((invitations.c.created_at, invitations.c.invitation_id), newest_first=True)
_OPEN: Final = (invitations.c.accepted_at.is_(None), invitations.c.revoked_at.is_(None))


class NewInvitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite, as what, and into which team."""

    email: Email
    role: Role = "member"
    team_id: Id | None = None


class ShownInvitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation. Its secret is in the letter alone: whoever has it shows that the address is theirs."""

    invitation_id: str
    email: str
    role: Role
    team_id: str | None
    invited_by: str | None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


class InvitationPage(msgspec.Struct, frozen=True):
    """A page of invitations, newest first."""

    items: list[ShownInvitation]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page, *, closed: bool) -> InvitationPage:
    """Return a page of invitations: those that can be accepted, or all."""
    principal.require("admin")
    query = sa.select(invitations).where(invitations.c.org_id == principal.org_id)
    if not closed:
        query = query.where(*_OPEN, invitations.c.expires_at > desk.clock())
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, query, _NEWEST_FIRST, page)
    return InvitationPage([_shown(row) for row in rows], following)


async def invite(desk: Desk, by: Maker, wanted: NewInvitation) -> ShownInvitation:
    """Invite somebody by letter, in place of an earlier invitation. Raises `Conflict` for a member."""
    by.principal.require("admin")
    not_above(by.principal, wanted.role)
    now, secret, email = desk.clock(), secrets.token_urlsafe(32), wanted.email.lower()
    await count_attempt(desk, ("letters", f"invitation:{by.org_id}:{email}"))
    goes = await _mailbox_has_room(desk, email)
    row: dict[str, Any] = {
        "invitation_id": f"inv_{uuid.uuid4().hex}",
        "org_id": by.org_id,
        "email": email,
        "role": wanted.role,
        "team_id": wanted.team_id,
        "digest": secret_digest(secret),
        "invited_by": by.principal.user_id or None,
        "created_at": now,
        "expires_at": now + _LIFETIME,
    }
    async with writing_async(desk.engine) as connection:
        await its_turn(connection, by.org_id)  # of two invitations to one address the later one counts
        await still_may(connection, by.principal)
        await _must_be_new(connection, by.org_id, email)
        await _must_be_team(connection, by.org_id, wanted.team_id)
        earlier = sa.update(invitations).where(
            invitations.c.org_id == by.org_id, invitations.c.email == email, *_OPEN
        )
        await connection.execute(earlier.values(revoked_at=now))
        await room_for_invitation(connection, by.org_id, now)
        await connection.execute(sa.insert(invitations).values(row))
        letter = letters.invitation(
            email,
            desk.settings.link_base,
            secret,
            organisation=_name(desk, by.org_id),
            inviter=by.principal.email,
        )
        # The guarantee: with no room the same is written, and taken back.
        written = await connection.begin_nested()
        await desk.outbox.post(connection, letter)
        await (written.commit() if goes else written.rollback())
        on = ("invitation", row["invitation_id"])
        await audit.record(
            connection, by.org_id, by.actor, "invitation.sent", on, email=email, role=wanted.role
        )
    desk.outbox.wake()
    facts = {"accepted_at": None, "revoked_at": None, **row}
    return ShownInvitation(**{name: facts[name] for name in ShownInvitation.__struct_fields__})


async def _mailbox_has_room(desk: Desk, email: str) -> bool:
    """Tell whether one more letter may go: nobody's mailbox is filled from here, whoever invites.

    Of that nobody hears: it would tell an organisation whom the others invite.
    """
    try:
        await count_attempt(desk, ("letters of all", f"invitation:{email}"))
    except RateLimited:
        return False
    return True


async def take_back(desk: Desk, by: Maker, invitation_id: str) -> None:
    """Take an invitation back; one that was accepted or taken back stays as it is. Raises `NotFound`."""
    by.principal.require("admin")
    mine = (invitations.c.org_id == by.org_id, invitations.c.invitation_id == checked_id(invitation_id))
    async with writing_async(desk.engine) as connection:
        query = sa.select(invitations).where(*mine).with_for_update()
        row = (await connection.execute(query)).first()
        if row is None:
            raise missing()
        ended = sa.update(invitations).where(*mine, *_OPEN).values(revoked_at=desk.clock())
        if (await connection.execute(ended)).rowcount:
            on = ("invitation", invitation_id)
            await audit.record(connection, by.org_id, by.actor, "invitation.revoked", on, email=row.email)


async def _must_be_new(connection: AsyncConnection, org_id: str, email: str) -> None:
    # Only of this organisation: whether an address has an account elsewhere is nobody's business.
    member = (
        sa.select(memberships.c.user_id)
        .join(users, users.c.user_id == memberships.c.user_id)
        .where(memberships.c.org_id == org_id, users.c.email == email)
    )
    if (await connection.execute(member)).first() is not None:
        raise Conflict("whoever has this address is a member already", code="already_member")


async def _must_be_team(connection: AsyncConnection, org_id: str, team_id: str | None) -> None:
    if team_id is None:
        return
    mine = (teams.c.org_id == org_id, teams.c.team_id == team_id)
    found = sa.select(teams.c.team_id).where(*mine).with_for_update(read=True)
    if (await connection.execute(found)).first() is None:
        raise InvalidRequest("no such team", fields={"team_id": "no team of the organisation"})


def _name(desk: Desk, org_id: str) -> str:
    organization = desk.people.organization(org_id)
    return organization.name if organization is not None else ""


def _shown(row: sa.Row[Any]) -> ShownInvitation:
    return ShownInvitation(**{name: row._mapping[name] for name in ShownInvitation.__struct_fields__})
