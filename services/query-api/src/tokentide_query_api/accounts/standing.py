"""Whether who makes a change still may, as the database has it: what is known in memory can be seconds old.

Asked in the transaction of a change that gives somebody more than they have; what it says stays true until
that ends.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import api_keys, memberships, organizations
from tokentide_common.errors import Unauthorized
from tokentide_query_api.accounts.principal import RANK, Principal

_LOST: Final = "your key or role has changed a moment ago: look again"


async def still_may(connection: AsyncConnection, principal: Principal) -> datetime | None:
    """Raise `Unauthorized` when the caller has lost what memory says they have.

    Return when the caller's key expires, None for never: what is made with a key does not outlive it.
    """
    if principal.user_id:
        mine = (memberships.c.org_id == principal.org_id, memberships.c.user_id == principal.user_id)
        query = sa.select(memberships.c.role).where(*mine).with_for_update(read=True)
        role = (await connection.execute(query)).scalar_one_or_none()
        if role is None or RANK[role] < RANK[principal.role]:
            raise Unauthorized(_LOST)
    if principal.kind != "key":
        return None
    live = (api_keys.c.key_id == principal.actor_id, api_keys.c.revoked_at.is_(None))
    key = sa.select(api_keys.c.role, api_keys.c.expires_at).where(*live).with_for_update(read=True)
    row = (await connection.execute(key)).first()
    if row is None or RANK[row.role] < RANK[principal.role]:
        raise Unauthorized(_LOST)
    return cast("datetime | None", row.expires_at)


async def its_turn(connection: AsyncConnection, org_id: str) -> bool:
    """Have changes of who belongs to an organisation happen one after another; tell whether it is open.

    Taken before any other row of the organisation, so that no two transactions wait for each other.
    """
    open_one = (organizations.c.org_id == org_id, organizations.c.closed_at.is_(None))
    turn = sa.select(organizations.c.org_id).where(*open_one).with_for_update(key_share=True)
    return (await connection.execute(turn)).first() is not None
