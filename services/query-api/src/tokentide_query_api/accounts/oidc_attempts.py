"""Logins under way at an identity provider: each is good once, for ten minutes, and in one browser."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import one_time_secrets
from tokentide_query_api.accounts.oidc_provider_side import Attempt
from tokentide_query_api.accounts.one_time import secret_digest

_LOGIN: Final = "oidc_login"
_TICKET: Final = "oidc_ticket"
_LASTS: Final = {_LOGIN: timedelta(minutes=10), _TICKET: timedelta(minutes=1)}
_SEAL: Final = b"tokentide oidc 1"


class Begun(msgspec.Struct, frozen=True):
    """A login that has begun: with whom, in which browser, and where it leads afterwards."""

    provider: str
    nonce: str
    verifier: str
    browser: str
    """The digest of what its browser holds in a cookie."""
    return_to: str


class Ticket(msgspec.Struct, frozen=True):
    """Who has logged in, for the page that the browser returns to."""

    user_id: str
    org_id: str
    browser: str
    """The digest of what its browser holds in a cookie."""


_Kept = TypeVar("_Kept", Begun, Ticket)


def new_attempt() -> Attempt:
    """Return fresh secrets for a login."""
    return Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))


async def keep_login(
    connection: AsyncConnection,
    attempt: Attempt,
    *,
    provider: str,
    browser: str,
    return_to: str,
    now: datetime,
) -> None:
    """Keep a login that begins."""
    begun = Begun(provider, attempt.nonce, attempt.verifier, secret_digest(browser), return_to)
    await _keep(connection, _LOGIN, attempt.state, begun, now)


async def take_login(
    connection: AsyncConnection, state: str, *, provider: str, browser: str, now: datetime
) -> Begun | None:
    """Return the login that a state stands for, and never again; None for whatever is wrong with it."""
    begun = await _take(connection, _LOGIN, state, Begun, now)
    if begun is None or begun.provider != provider:
        return None
    # Nobody is logged in by a link that another's browser has begun with.
    return begun if hmac.compare_digest(begun.browser, secret_digest(browser)) else None


async def issue_ticket(connection: AsyncConnection, ticket: Ticket, now: datetime) -> str:
    """Return a secret for which `take_ticket` gives the ticket once."""
    secret = secrets.token_urlsafe(32)
    await _keep(connection, _TICKET, secret, ticket, now)
    return secret


async def take_ticket(
    connection: AsyncConnection, secret: str, *, browser: str, now: datetime
) -> Ticket | None:
    """Return what a secret stands for, and never again; None in another browser than it was issued for."""
    ticket = await _take(connection, _TICKET, secret, Ticket, now)
    # Nobody is logged in as somebody else by a page's address that they were sent.
    return (
        ticket if ticket is not None and hmac.compare_digest(ticket.browser, secret_digest(browser)) else None
    )


async def _keep(
    connection: AsyncConnection, purpose: str, secret: str, content: Begun | Ticket, now: datetime
) -> None:
    mine = one_time_secrets.c.purpose == purpose
    await connection.execute(sa.delete(one_time_secrets).where(mine, one_time_secrets.c.expires_at <= now))
    await connection.execute(
        sa.insert(one_time_secrets).values(
            digest=secret_digest(secret),
            purpose=purpose,
            content=_seal(secret).encrypt(msgspec.json.encode(content)),
            created_at=now,
            expires_at=now + _LASTS[purpose],
        )
    )


async def _take(
    connection: AsyncConnection, purpose: str, secret: str, kind: type[_Kept], now: datetime
) -> _Kept | None:
    # One statement finds it and removes it: of two that come at once exactly one gets it.
    mine = (one_time_secrets.c.digest == secret_digest(secret), one_time_secrets.c.purpose == purpose)
    taken = sa.delete(one_time_secrets).where(*mine, one_time_secrets.c.expires_at > now)
    row = (await connection.execute(taken.returning(one_time_secrets.c.content))).first()
    if row is None:
        return None
    try:
        return msgspec.json.decode(_seal(secret).decrypt(row.content), type=kind)
    except (InvalidToken, msgspec.MsgspecError):
        return None


def _seal(secret: str) -> Fernet:
    # Under the secret itself, of which the database has but a digest: the database alone opens nothing.
    key = hashlib.blake2b(_SEAL, key=hashlib.sha256(b"seal" + secret.encode()).digest(), digest_size=32)
    return Fernet(base64.urlsafe_b64encode(key.digest()))
