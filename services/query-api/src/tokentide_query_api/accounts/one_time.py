"""Secrets in links: good once, for one purpose, and for a while. Of each there is only a digest."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import one_time_secrets
from tokentide_common.errors import InvalidRequest

Purpose = Literal["verify_email", "reset_password"]
LIFETIME: Final[dict[Purpose, timedelta]] = {
    "verify_email": timedelta(days=3),
    "reset_password": timedelta(hours=1),
}


async def issue_link(
    connection: AsyncConnection, purpose: Purpose, user_id: str | None, now: datetime
) -> str:
    """Return a new secret for a user; it is shown in a letter and nowhere else."""
    secret = secrets.token_urlsafe(32)
    await connection.execute(
        sa.insert(one_time_secrets).values(
            digest=secret_digest(secret),
            purpose=purpose,
            user_id=user_id,
            created_at=now,
            expires_at=now + LIFETIME[purpose],
        )
    )
    return secret


async def redeem_link(connection: AsyncConnection, purpose: Purpose, secret: str, now: datetime) -> str:
    """Return whose secret it is, and make it void. Raises `InvalidRequest`, one for whatever is wrong."""
    good = _good(purpose, secret, now)
    # One statement finds it unused and marks it: it is good once, also at two replicas.
    used = sa.update(one_time_secrets).where(*good).values(used_at=now)
    user_id = (await connection.execute(used.returning(one_time_secrets.c.user_id))).scalar_one_or_none()
    if user_id is None:
        raise _refused()
    return str(user_id)


async def must_be_link(connection: AsyncConnection, purpose: Purpose, secret: str, now: datetime) -> None:
    """Raise as `redeem_link` unless a secret is good; it stays so."""
    good = sa.select(one_time_secrets.c.digest).where(*_good(purpose, secret, now))
    if (await connection.execute(good)).first() is None:
        raise _refused()


async def void_links(connection: AsyncConnection, purpose: Purpose, user_id: str, now: datetime) -> None:
    """Make all other secrets of a user for a purpose void."""
    unused = (
        one_time_secrets.c.user_id == user_id,
        one_time_secrets.c.purpose == purpose,
        one_time_secrets.c.used_at.is_(None),
    )
    await connection.execute(sa.update(one_time_secrets).where(*unused).values(used_at=now))


def _good(purpose: Purpose, secret: str, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        one_time_secrets.c.digest == secret_digest(secret),
        one_time_secrets.c.purpose == purpose,
        one_time_secrets.c.used_at.is_(None),
        one_time_secrets.c.expires_at > now,
    )


def _refused() -> InvalidRequest:
    return InvalidRequest(
        "this link was used before, has expired or is none of ours: ask for a new letter", code="invalid_link"
    )


def secret_digest(secret: str) -> str:
    """Return what is stored of a secret: nobody can guess its 256 random bits from it."""
    return hashlib.sha256(secret.encode()).hexdigest()
