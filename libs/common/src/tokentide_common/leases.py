"""Named leases with a fencing token, so that one of several processes acts and a stalled one cannot.

The token (`fence`) rises with every acquisition and never falls. The holder writes it with all that it
writes, and readers believe the highest: a holder that slept past its expiry is then overruled, whatever the
clocks of the machines say.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from tokentide_common.database import Engine, insert_or, writing
from tokentide_common.schema import leases


def acquire_lease(engine: Engine, name: str, holder: str, *, ttl_s: float, now: datetime) -> int | None:
    """Take a lease that is free, expired or this holder's own; return its fence, None if another has it.

    `holder` is unique per process start. A holder that has the lease calls `renew_lease` instead.
    """
    expires_at = now + timedelta(seconds=ttl_s)
    proposed = insert_or(engine, leases).values(name=name, holder=holder, fence=1, expires_at=expires_at)
    # One statement decides and counts up: two that race for an expired lease are put in order by the row.
    statement = proposed.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": holder, "fence": leases.c.fence + 1, "expires_at": expires_at},
        where=sa.or_(leases.c.expires_at <= now, leases.c.holder == holder),
    ).returning(leases.c.fence)
    with writing(engine) as connection:
        fence = connection.execute(statement).scalar_one_or_none()
    return None if fence is None else int(fence)


def renew_lease(engine: Engine, name: str, holder: str, fence: int, *, ttl_s: float, now: datetime) -> bool:
    """Prolong a lease and return True, or False when another holder has taken it: stop at once then.

    A lease that expired but was taken by nobody is still this holder's, since its fence is the highest.
    """
    return _set_expiry(engine, name, holder, fence, now + timedelta(seconds=ttl_s))


def release_lease(engine: Engine, name: str, holder: str, fence: int, *, now: datetime) -> bool:
    """Give a lease back so that another can take it at once; return False when it was already another's.

    The row stays, for its fence must go on rising.
    """
    return _set_expiry(engine, name, holder, fence, now)


def _set_expiry(engine: Engine, name: str, holder: str, fence: int, expires_at: datetime) -> bool:
    statement = (
        sa.update(leases)
        .where(leases.c.name == name, leases.c.holder == holder, leases.c.fence == fence)
        .values(expires_at=expires_at)
    )
    with writing(engine) as connection:
        return connection.execute(statement).rowcount == 1
