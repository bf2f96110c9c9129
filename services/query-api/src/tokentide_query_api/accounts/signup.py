"""Signing up with a password: as the first, with an invitation, or where it is open to all."""

from __future__ import annotations

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import users
from tokentide_common.database import reading_async
from tokentide_common.errors import Forbidden
from tokentide_query_api.accounts import audit, letters
from tokentide_query_api.accounts.auth_shapes import NewOrganisation, SignUp, Tokens
from tokentide_query_api.accounts.changes import changing_people
from tokentide_query_api.accounts.desk import Desk, people_changed
from tokentide_query_api.accounts.invitees import accept_invitation, invitation_turn, must_be_invited
from tokentide_query_api.accounts.lockout import count_attempt, forgive
from tokentide_query_api.accounts.login import Visitor, canonical, replace_hash, right_user
from tokentide_query_api.accounts.newcomers import (
    Newcomer,
    add_user,
    found_organisation,
    has_people,
    make_owner,
    must_be_zone,
)
from tokentide_query_api.accounts.one_time import issue_link
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.sessions import open_session
from tokentide_query_api.accounts.standing import its_turn
from tokentide_query_api.accounts.whoami import tokens_answer


async def sign_up(desk: Desk, said: SignUp, visitor: Visitor, by: Principal | None = None) -> Tokens:
    """Make a user and open their first session; who has an account accepts an invitation with it.

    `by` is an organisation's own API key: whoever holds it becomes the owner of an organisation that has no
    people yet. Raises `Forbidden` where nobody may sign up like this.
    """
    if said.organisation is not None:
        must_be_zone(said.organisation.time_zone, "organisation.time_zone")
    if said.invitation is None:
        await count_attempt(desk, ("sign-ups from", visitor.address))
        return await _uninvited(desk, said, visitor, by)
    if desk.settings.signup == "closed":
        raise _closed()
    email = canonical(said.email)
    async with reading_async(desk.engine) as connection:
        # Asked first: only who is invited learns whether the e-mail address has an account.
        await must_be_invited(connection, said.invitation, email, desk.clock())
        known = (await connection.execute(sa.select(users.c.user_id).where(users.c.email == email))).first()
    if known is not None:
        return await _known_invited(desk, said, said.invitation, visitor)
    return await _new_invited(desk, said, said.invitation, visitor)


async def _uninvited(desk: Desk, said: SignUp, visitor: Visitor, by: Principal | None) -> Tokens:
    async with reading_async(desk.engine) as connection:
        # Asked before the password is hashed, which costs more than all the rest; and once more below.
        await _must_be_open(desk, connection, by)
    newcomer = await _newcomer(desk, said, verified=False)
    now = desk.clock()
    async with changing_people(desk) as connection:
        if by is not None and not await its_turn(connection, by.org_id):
            raise _closed()  # its organisation was closed a moment ago
        # Takes the lock that all changes of people end with: of two first ones only one is the first.
        await people_changed(connection)
        await _must_be_open(desk, connection, by)
        await add_user(connection, newcomer, now)
        if by is None:
            org_id = await _founded(connection, said, newcomer, visitor, now)
        else:
            org_id = by.org_id
            await make_owner(connection, org_id, newcomer.user_id, now)
        secret = await issue_link(connection, "verify_email", newcomer.user_id, now)
        letter = letters.verify_email(newcomer.email, desk.settings.link_base, secret)
        await desk.outbox.post(connection, letter)
        answer = await _at_home(desk, connection, newcomer, org_id, visitor)
    desk.outbox.wake()
    return answer


async def _founded(
    connection: AsyncConnection, said: SignUp, newcomer: Newcomer, visitor: Visitor, now: datetime
) -> str:
    """Found the organisation of whoever begins one, named after the person unless they say how."""
    founder = visitor.actor(newcomer.user_id, newcomer.email)
    wanted = said.organisation or NewOrganisation(newcomer.display_name or newcomer.email.partition("@")[0])
    return await found_organisation(connection, founder, wanted.name, wanted.time_zone, now)


async def _new_invited(desk: Desk, said: SignUp, secret: str, visitor: Visitor) -> Tokens:
    newcomer = await _newcomer(desk, said, verified=True)
    now = desk.clock()
    async with changing_people(desk) as connection:
        await invitation_turn(connection, secret)  # first: whoever has the last lock waits for nobody
        # The lock of `_uninvited` too: whoever signs up with one address at once goes one after the other.
        await people_changed(connection)
        await add_user(connection, newcomer, now)
        actor = visitor.actor(newcomer.user_id, newcomer.email)
        org_id = await accept_invitation(connection, secret, newcomer.user_id, actor, now)
        return await _at_home(desk, connection, newcomer, org_id, visitor)


async def _known_invited(desk: Desk, said: SignUp, secret: str, visitor: Visitor) -> Tokens:
    """Let somebody who has an account in with their password, and accept the invitation."""
    row = await right_user(desk, said.email, said.password, visitor)
    actor = visitor.actor(row.user_id, row.email)
    async with changing_people(desk) as connection:
        await replace_hash(connection, row, row.password_hash)
        await forgive(desk, connection, ("email", row.email))
        org_id = await accept_invitation(connection, secret, row.user_id, actor, desk.clock())
        opened = await open_session(
            desk, connection, row.user_id, org_id, address=visitor.address, user_agent=visitor.user_agent
        )
        await audit.record(connection, org_id, actor, "session.opened", ("session", opened.session_id))
        return await tokens_answer(connection, opened)


async def _newcomer(desk: Desk, said: SignUp, *, verified: bool) -> Newcomer:
    return Newcomer(
        user_id=f"usr_{uuid.uuid4().hex}",
        email=canonical(said.email),
        hashed=await desk.passwords.hashed(said.password),
        display_name=said.display_name.strip(),
        verified=verified,
    )


async def _at_home(
    desk: Desk, connection: AsyncConnection, newcomer: Newcomer, org_id: str, visitor: Visitor
) -> Tokens:
    actor = visitor.actor(newcomer.user_id, newcomer.email)
    await audit.record(connection, org_id, actor, "user.signed_up", ("user", newcomer.user_id))
    opened = await open_session(
        desk, connection, newcomer.user_id, org_id, address=visitor.address, user_agent=visitor.user_agent
    )
    await audit.record(connection, org_id, actor, "session.opened", ("session", opened.session_id))
    return await tokens_answer(connection, opened)


async def _must_be_open(desk: Desk, connection: AsyncConnection, by: Principal | None) -> None:
    if by is not None:
        await _must_be_unclaimed(connection, by)
    elif desk.settings.signup != "open" and (
        desk.settings.signup == "closed" or await has_people(connection)
    ):
        raise _closed()


async def _must_be_unclaimed(connection: AsyncConnection, by: Principal) -> None:
    by.require("admin")
    by.require_scope("manage")
    if by.kind != "key" or by.user_id or await has_people(connection, by.org_id):
        raise Forbidden(
            "this organisation has people: ask one of them for an invitation", code="signup_closed"
        )


def _closed() -> Forbidden:
    return Forbidden(
        "here only those sign up who are invited, or nobody: ask whoever runs this installation",
        code="signup_closed",
    )
