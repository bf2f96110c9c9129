"""How many of a thing there may be at once, so that nobody fills what every replica holds in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import api_keys, invitations, teams
from tokentide_common.errors import Conflict, RateLimited

KEYS_OF_ONE: Final = 1_000
KEYS_OF_ALL: Final = 20_000
OPEN_INVITATIONS: Final = 500
INVITATIONS_A_DAY: Final = 500
TEAMS: Final = 1_000
_DAY: Final = timedelta(days=1)


async def keys_within_bounds(
    connection: AsyncConnection, org_id: str, owner_id: str | None, now: datetime
) -> None:
    """Raise `Conflict` when there are too many live keys now.

    Called after the new one is added: whoever adds keys holds the number of their revision until the end, so
    that all who come at once are counted.
    """
    live = [
        api_keys.c.org_id == org_id,
        api_keys.c.revoked_at.is_(None),
        sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
    ]
    if await _count(connection, *live) > KEYS_OF_ALL:
        raise _too_many(KEYS_OF_ALL, "keys", "revoke some", code="too_many_keys")
    if (
        owner_id is not None
        and await _count(connection, *live, api_keys.c.owner_id == owner_id) > KEYS_OF_ONE
    ):
        raise _too_many(KEYS_OF_ONE, "keys of one user", "revoke some", code="too_many_keys")


async def room_for_invitation(connection: AsyncConnection, org_id: str, now: datetime) -> None:
    """Raise `Conflict` with too many open invitations, `RateLimited` with too many sent. It is our turn."""
    mine = invitations.c.org_id == org_id
    # A letter costs whoever gets it more than whoever sends it.
    if await _count(connection, mine, invitations.c.created_at > now - _DAY) >= INVITATIONS_A_DAY:
        raise RateLimited(
            f"an organisation sends no more than {INVITATIONS_A_DAY} invitations a day: go on tomorrow",
            retry_after_s=3600,
            code="too_many_letters",
        )
    open_ones = (invitations.c.accepted_at.is_(None), invitations.c.revoked_at.is_(None))
    if await _count(connection, mine, *open_ones, invitations.c.expires_at > now) >= OPEN_INVITATIONS:
        raise _too_many(OPEN_INVITATIONS, "open invitations", "take some back", code="too_many_invitations")


async def room_for_team(connection: AsyncConnection, org_id: str) -> None:
    """Raise `Conflict` when an organisation has as many teams as it may. It is our turn."""
    if await _count(connection, teams.c.org_id == org_id) >= TEAMS:
        raise _too_many(TEAMS, "teams", "remove some", code="too_many_teams")


async def _count(connection: AsyncConnection, *which: sa.ColumnElement[Any]) -> int:
    return int((await connection.execute(sa.select(sa.func.count()).where(*which))).scalar_one())


def _too_many(most: int, things: str, remedy: str, *, code: str) -> Conflict:
    return Conflict(f"there may be no more than {most} {things} at once: {remedy}", code=code)
