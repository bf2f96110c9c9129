"""New users and their organisations, as rows."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, organizations, users
from tokentide_common.errors import Conflict, InvalidRequest
from tokentide_common.time_zones import time_zone
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.audit import Actor


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who gets an account."""

    user_id: str
    email: str
    hashed: str
    display_name: str
    verified: bool
    """The e-mail address is theirs: they have the secret of a letter to it."""


async def add_user(connection: AsyncConnection, newcomer: Newcomer, now: datetime) -> None:
    """Add a user. Raises `Conflict` when the e-mail address is taken."""
    taken = sa.select(users.c.user_id).where(users.c.email == newcomer.email)
    if (await connection.execute(taken)).first() is not None:
        raise _taken()
    row = {
        "user_id": newcomer.user_id,
        "email": newcomer.email,
        "display_name": newcomer.display_name,
        "password_hash": newcomer.hashed,
        "email_verified_at": now if newcomer.verified else None,
        "created_at": now,
    }
    try:
        await connection.execute(sa.insert(users).values(row))
    except IntegrityError as exc:  # it was taken at this moment, by a login with an identity provider
        raise _taken() from exc


def _taken() -> Conflict:
    return Conflict("this e-mail address has an account: log in", code="email_taken")


async def found_organisation(
    connection: AsyncConnection, founder: Actor, name: str, zone: str, now: datetime
) -> str:
    """Add an organisation of which a user is the owner; return its id."""
    org_id = f"org_{uuid.uuid4().hex}"
    row = {"org_id": org_id, "name": name, "time_zone": zone, "created_at": now}
    await connection.execute(sa.insert(organizations).values(row))
    await make_owner(connection, org_id, founder.id, now)
    await audit.record(
        connection, org_id, founder, "organisation.created", ("organisation", org_id), name=name
    )
    return org_id


async def make_owner(connection: AsyncConnection, org_id: str, user_id: str, now: datetime) -> None:
    """Make somebody an owner who is no member yet."""
    row = {"org_id": org_id, "user_id": user_id, "role": "owner", "created_at": now}
    await connection.execute(sa.insert(memberships).values(row))


async def has_people(connection: AsyncConnection, org_id: str = "") -> bool:
    """Tell whether anybody belongs to an organisation, or, without one, has an account at all."""
    if org_id:
        query = sa.select(memberships.c.user_id).where(memberships.c.org_id == org_id)
    else:
        query = sa.select(users.c.user_id)
    return (await connection.execute(query.limit(1))).first() is not None


def must_be_zone(name: str, field: str = "time_zone") -> None:
    """Raise `InvalidRequest`, which names the field, for what is no IANA time zone."""
    try:
        time_zone(name)
    except ValueError as exc:
        raise InvalidRequest(
            "unknown time zone",
            code="unknown_time_zone",
            fields={field: "not an IANA time zone"},
        ) from exc
