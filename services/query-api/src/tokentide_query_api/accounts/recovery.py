"""What letters are for: e-mail addresses are confirmed, and forgotten passwords chosen anew."""

from __future__ import annotations

import sqlalchemy as sa

from tokentide_common.accounts_schema import users
from tokentide_common.database import writing_async
from tokentide_common.errors import RateLimited
from tokentide_query_api.accounts import audit, letters
from tokentide_query_api.accounts.changes import changing_people
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.lockout import count_attempt, forgive
from tokentide_query_api.accounts.login import Visitor, canonical
from tokentide_query_api.accounts.one_time import issue_link, redeem_link, void_links
from tokentide_query_api.accounts.sessions import end_sessions_of
from tokentide_query_api.accounts.whoami import organisations_of


async def verify_email(desk: Desk, secret: str, visitor: Visitor) -> None:
    """Note that an e-mail address is its user's. Raises `InvalidRequest` for a link that is not good."""
    now = desk.clock()
    async with writing_async(desk.engine) as connection:
        user_id = await redeem_link(connection, "verify_email", secret, now)
        verified = sa.update(users).where(users.c.user_id == user_id, users.c.email_verified_at.is_(None))
        await connection.execute(verified.values(email_verified_at=now, version=users.c.version + 1))
        for org in await organisations_of(connection, user_id):
            await audit.record(connection, org.id, visitor.actor(), "user.email_verified", ("user", user_id))


async def forgot_password(desk: Desk, email: str, visitor: Visitor) -> None:
    """Send a letter with a link to whom the address belongs, if to anybody: the same work, the same answer.

    Nobody's mailbox is filled: after a few letters the next ones wait, which is not told either.
    """
    email, now = canonical(email), desk.clock()
    await count_attempt(desk, ("address", visitor.address))
    try:
        await count_attempt(desk, ("letters", email))
    except RateLimited:
        return
    # Who has no password comes in by an identity provider alone, which a letter must not lead around.
    known = sa.select(users.c.user_id).where(users.c.email == email, users.c.password_hash.is_not(None))
    async with writing_async(desk.engine) as connection:
        user_id = (await connection.execute(known)).scalar_one_or_none()
        # The guarantee: for nobody the same is written, and taken back.
        written = await connection.begin_nested()
        secret = await issue_link(connection, "reset_password", user_id, now)
        await desk.outbox.post(connection, letters.reset_password(email, desk.settings.link_base, secret))
        await (written.commit() if user_id is not None else written.rollback())
    desk.outbox.wake()


async def reset_password(desk: Desk, secret: str, password: str, visitor: Visitor) -> None:
    """Set a new password and end all sessions. Raises `InvalidRequest` for a link that is not good."""
    hashed = await desk.passwords.hashed(password)
    now = desk.clock()
    async with changing_people(desk) as connection:
        user_id = await redeem_link(connection, "reset_password", secret, now)
        changed = sa.update(users).where(users.c.user_id == user_id)
        # Who has the letter has the mailbox.
        verified = sa.func.coalesce(
            users.c.email_verified_at, sa.literal(now, users.c.email_verified_at.type)
        )
        values = {"password_hash": hashed, "email_verified_at": verified, "version": users.c.version + 1}
        email = (await connection.execute(changed.values(values).returning(users.c.email))).scalar_one()
        await end_sessions_of(connection, user_id, now)
        await void_links(connection, "reset_password", user_id, now)
        await forgive(desk, connection, ("email", email))
        await desk.outbox.post(connection, letters.password_changed(email))
        for org in await organisations_of(connection, user_id):
            await audit.record(connection, org.id, visitor.actor(), "password.reset", ("user", user_id))
    desk.outbox.wake()
