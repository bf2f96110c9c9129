"""Logging in with a password: one answer, at one cost, for whatever is wrong with it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import login_failures, users
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Forbidden, NotFound, Unauthorized
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.auth_shapes import LogIn, MyOrganisation, Tokens
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.lockout import count_attempt, forgive, subject_digest
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.sessions import open_session
from tokentide_query_api.accounts.whoami import organisations_of, tokens_answer

_WRONG: Final = "e-mail address or password is wrong"


class Visitor(msgspec.Struct, frozen=True):
    """Who asks, of whom nothing is known yet but where from."""

    address: str
    user_agent: str
    request_id: str

    def actor(self, user_id: str = "", email: str = "") -> Actor:
        """Return how the audit log calls them: a user once that is known."""
        return Actor("user" if user_id else "nobody", user_id, email, self.address, self.request_id)

    def actor_of(self, principal: Principal) -> Actor:
        """Return how the audit log calls a principal."""
        return Actor.of(principal, self.address, self.request_id)


async def log_in(desk: Desk, said: LogIn, visitor: Visitor) -> Tokens:
    """Open a session. Raises one and the same `Unauthorized` for an unknown e-mail address, a user without a
    password and a wrong one, after the same work; `RateLimited` after too many attempts.
    """
    row = await right_user(desk, said.email, said.password, visitor)
    outdated = desk.passwords.outdated(row.password_hash)
    hashed = await desk.passwords.hashed(said.password) if outdated else row.password_hash
    async with writing_async(desk.engine) as connection:
        await replace_hash(connection, row, hashed)
        await forgive(desk, connection, ("email", row.email))
        org_id = _wanted(await organisations_of(connection, row.user_id), said.organisation)
        opened = await open_session(
            desk, connection, row.user_id, org_id, address=visitor.address, user_agent=visitor.user_agent
        )
        actor = visitor.actor(row.user_id, row.email)
        await audit.record(connection, org_id, actor, "session.opened", ("session", opened.session_id))
        return await tokens_answer(connection, opened)


async def right_user(desk: Desk, email: str, password: str, visitor: Visitor) -> sa.Row[Any]:
    """Return the row of `users` whose password this is; counts the attempt, which the caller forgives."""
    email = canonical(email)
    await count_attempt(desk, ("email", email))
    async with reading_async(desk.engine) as connection:
        row = (await connection.execute(sa.select(users).where(users.c.email == email))).first()
    # Known or not, with a password or without: the same work, so that its time tells nothing.
    right = await desk.passwords.verified(row.password_hash if row else None, password)
    if row is None or not right:
        # After the answer: of known users there is more to record, which its time would tell.
        failed = _record_failure(desk, email, row.user_id if row else "", visitor)
        desk.afterwards.do("failed-login", failed)
        raise Unauthorized(_WRONG, code="wrong_credentials")
    return row


async def replace_hash(connection: AsyncConnection, row: sa.Row[Any], hashed: str) -> None:
    """Store a hash, perhaps the same, in place of the one that was checked.

    Raises `Unauthorized` when that was changed meanwhile: nothing may be done any more with the old password.
    """
    checked = (users.c.user_id == row.user_id, users.c.password_hash == row.password_hash)
    replaced = sa.update(users).where(*checked).values(password_hash=hashed)
    if not (await connection.execute(replaced)).rowcount:
        raise Unauthorized(_WRONG, code="wrong_credentials")


def canonical(email: str) -> str:
    """Return an e-mail address as it is stored and compared."""
    return email.strip().lower()


async def _record_failure(desk: Desk, email: str, user_id: str, visitor: Visitor) -> None:
    """Tell the organisations of a user of a failed login. Of nobody's it tells nobody, at the same cost."""
    async with writing_async(desk.engine) as connection:
        # The row that counts attempts is written once more, for known and unknown alike: else only what is
        # recorded of the known would wait for the disk.
        mine = login_failures.c.subject == subject_digest(desk, "email", email)
        counted = sa.update(login_failures).where(mine)
        await connection.execute(counted.values(last_failed_at=desk.clock()))
        for organisation in await organisations_of(connection, user_id):
            await audit.record(
                connection, organisation.id, visitor.actor(), "login.failed", ("user", user_id), email=email
            )


def _wanted(mine: list[MyOrganisation], org_id: str | None) -> str:
    """Return the organisation to work in: the one that was asked for, or the first that was joined."""
    if not mine:
        raise Forbidden("you belong to no organisation any more", code="no_organisation")
    if org_id is None:
        return mine[0].id
    if org_id not in {organisation.id for organisation in mine}:
        raise NotFound("you belong to no such organisation")
    return org_id
