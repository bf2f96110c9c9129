"""Who somebody is: what sessions and answers say of a user in an organisation."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import memberships, organizations, users
from tokentide_common.errors import Unauthorized
from tokentide_query_api.accounts.auth_shapes import MyOrganisation, ShownOrganisation, ShownUser, Tokens
from tokentide_query_api.accounts.sessions import OpenedSession


async def tokens_answer(connection: AsyncConnection, opened: OpenedSession) -> Tokens:
    """Return the answer to whoever has a session now. Raises `Unauthorized` for who is no member."""
    known = (
        sa.select(users, organizations.c.name, memberships.c.role)
        .join(memberships, memberships.c.user_id == users.c.user_id)
        .join(organizations, organizations.c.org_id == memberships.c.org_id)
        .where(memberships.c.org_id == opened.org_id, users.c.user_id == opened.user_id)
    )
    row = (await connection.execute(known)).first()
    if row is None:
        raise Unauthorized("a valid access token is needed: log in or refresh")
    return Tokens(
        access_token=opened.access_token,
        expires_in=opened.expires_in,
        refresh_token=opened.refresh_token,
        user=shown_user(row),
        organisation=ShownOrganisation(opened.org_id, row.name),
        role=row.role,
    )


async def organisations_of(connection: AsyncConnection, user_id: str) -> list[MyOrganisation]:
    """Return the organisations of a user, those they joined first first."""
    mine = (
        sa.select(organizations.c.org_id, organizations.c.name, memberships.c.role)
        .join(memberships, memberships.c.org_id == organizations.c.org_id)
        .where(memberships.c.user_id == user_id)
        .order_by(memberships.c.created_at, organizations.c.org_id)
    )
    return [MyOrganisation(*row) for row in await connection.execute(mine)]


def shown_user(row: sa.Row[Any]) -> ShownUser:
    """Return what users see of themselves, from a row of `users`."""
    return ShownUser(
        id=row.user_id,
        email=row.email,
        display_name=row.display_name,
        email_verified=row.email_verified_at is not None,
        has_password=row.password_hash is not None,
        handle=row.handle,
        on_leaderboard=row.on_leaderboard,
    )
