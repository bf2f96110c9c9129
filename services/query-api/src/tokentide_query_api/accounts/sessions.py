"""Sessions of people: opened at a login, carried on by refresh tokens that are good once, and ended."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, refresh_tokens, sessions
from tokentide_common.database import writing_async
from tokentide_common.errors import Unauthorized
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.access_tokens import LIFETIME, Claims
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.desk import Desk, people_changed
from tokentide_query_api.accounts.one_time import secret_digest

IDLE: Final = timedelta(days=30)
"""A session that is not refreshed for so long is over."""
LONGEST: Final = timedelta(days=90)
"""No session lasts longer, however often it is refreshed."""
# An answer that was lost makes an honest client ask again, and a browser's two tabs ask at once: for so long
# the second asking is refused and nothing more.
GRACE: Final = timedelta(seconds=10)
_REFUSED: Final = "a valid refresh token is needed: log in again"


class OpenedSession(msgspec.Struct, frozen=True):
    """A session with its tokens, which are kept nowhere else: of the refresh token there is a digest."""

    session_id: str
    user_id: str
    org_id: str
    access_token: str
    refresh_token: str
    expires_in: int
    """Seconds for which the access token is good."""


async def open_session(
    desk: Desk, connection: AsyncConnection, user_id: str, org_id: str, *, address: str, user_agent: str
) -> OpenedSession:
    """Open a session in the caller's transaction; whoever calls has made sure who it is and a member."""
    now = desk.clock()
    session_id = f"ses_{uuid.uuid4().hex}"
    await connection.execute(
        sa.insert(sessions).values(
            session_id=session_id,
            user_id=user_id,
            org_id=org_id,
            user_agent=user_agent[:200],
            address=address[:64],
            created_at=now,
            last_used_at=now,
            expires_at=now + IDLE,
        )
    )
    return await _with_tokens(desk, connection, Claims(user_id, session_id, org_id), now)


async def rotate(desk: Desk, refresh_token: str, actor: Actor) -> OpenedSession:
    """Return new tokens for a refresh token, which is good for nothing from then on.

    Raises one and the same `Unauthorized` for whatever is wrong. A token that comes a second time was copied
    by somebody: since nobody can tell who is the thief, its session ends.
    """
    async with writing_async(desk.engine) as connection:
        now = desk.clock()
        digest = secret_digest(refresh_token)
        session_id = await _taken(connection, digest, now)
        claims = None if session_id is None else await _live(connection, session_id, now)
        if claims is not None:
            return await _with_tokens(desk, connection, claims, now)
        ended = session_id is None and await _end_replayed(connection, digest, now, actor)
    if ended:
        await desk.people.refresh()
    raise Unauthorized(_REFUSED)


async def end_session(connection: AsyncConnection, session_id: str, now: datetime) -> bool:
    """End a session, in the caller's transaction; tell whether it was not over already.

    The transaction's last word must be `people_changed`, and after it `desk.people.refresh()`: that ends the
    access tokens too.
    """
    ended = sa.update(sessions).where(sessions.c.session_id == session_id, sessions.c.revoked_at.is_(None))
    return (await connection.execute(ended.values(revoked_at=now))).rowcount > 0


async def end_sessions_of(
    connection: AsyncConnection, user_id: str, now: datetime, *, but: str = "", org_id: str = ""
) -> int:
    """End all sessions of a user but one, of one organisation or of all, as `end_session`; say how many."""
    mine = [sessions.c.user_id == user_id, sessions.c.session_id != but, sessions.c.revoked_at.is_(None)]
    if org_id:
        mine.append(sessions.c.org_id == org_id)
    return (await connection.execute(sa.update(sessions).where(*mine).values(revoked_at=now))).rowcount


async def move_session(desk: Desk, connection: AsyncConnection, claims: Claims) -> OpenedSession:
    """Carry a session on in another organisation of its user, with new tokens; the old refresh token is void.

    Raises `Unauthorized` when the session is over.
    """
    now = desk.clock()
    # First the tokens, then the session, as `rotate` takes them: else two at once would wait for each other.
    unused = (refresh_tokens.c.session_id == claims.session_id, refresh_tokens.c.used_at.is_(None))
    await connection.execute(sa.update(refresh_tokens).where(*unused).values(used_at=now))
    live = (sessions.c.session_id == claims.session_id, sessions.c.revoked_at.is_(None))
    moved = sa.update(sessions).where(*live).values(org_id=claims.org_id)
    if not (await connection.execute(moved)).rowcount:
        raise Unauthorized(_REFUSED)
    return await _with_tokens(desk, connection, claims, now)


async def _with_tokens(
    desk: Desk, connection: AsyncConnection, claims: Claims, now: datetime
) -> OpenedSession:
    refresh = f"ttr_{secrets.token_urlsafe(32)}"
    await connection.execute(
        sa.insert(refresh_tokens).values(
            digest=secret_digest(refresh), session_id=claims.session_id, issued_at=now
        )
    )
    return OpenedSession(
        session_id=claims.session_id,
        user_id=claims.user_id,
        org_id=claims.org_id,
        access_token=desk.tokens.issue(claims, now),
        refresh_token=refresh,
        expires_in=int(LIFETIME.total_seconds()),
    )


async def _taken(connection: AsyncConnection, digest: str, now: datetime) -> str | None:
    # One statement finds the token unused and marks it: of two replicas exactly one gets the session.
    unused = (refresh_tokens.c.digest == digest, refresh_tokens.c.used_at.is_(None))
    taken = sa.update(refresh_tokens).where(*unused).values(used_at=now)
    session_id = (await connection.execute(taken.returning(refresh_tokens.c.session_id))).scalar_one_or_none()
    return None if session_id is None else str(session_id)


async def _live(connection: AsyncConnection, session_id: str, now: datetime) -> Claims | None:
    """Return whose session it is and carry it on, unless it is over or its user no member any more."""
    belongs = sa.exists().where(
        memberships.c.org_id == sessions.c.org_id, memberships.c.user_id == sessions.c.user_id
    )
    live = (sessions.c.session_id == session_id, sessions.c.revoked_at.is_(None))
    found = sa.select(sessions.c.user_id, sessions.c.org_id, sessions.c.created_at).where(
        *live, sessions.c.expires_at > now, belongs
    )
    row = (await connection.execute(found)).first()
    if row is None:
        return None
    expires_at = min(now + IDLE, row.created_at + LONGEST)
    carried = sa.update(sessions).where(*live).values(last_used_at=now, expires_at=expires_at)
    if not (await connection.execute(carried)).rowcount:  # it was ended a moment ago
        return None
    return Claims(row.user_id, session_id, row.org_id)


async def _end_replayed(connection: AsyncConnection, digest: str, now: datetime, actor: Actor) -> bool:
    copied = (refresh_tokens.c.digest == digest, refresh_tokens.c.used_at <= now - GRACE)
    found = (
        sa.select(sessions.c.session_id, sessions.c.user_id, sessions.c.org_id)
        .join(refresh_tokens, refresh_tokens.c.session_id == sessions.c.session_id)
        .where(*copied)
    )
    row = (await connection.execute(found)).first()
    if row is None or not await end_session(connection, row.session_id, now):
        return False
    on = ("session", row.session_id)
    await audit.record(connection, row.org_id, actor, "session.token_replayed", on, user_id=row.user_id)
    await people_changed(connection)
    return True
