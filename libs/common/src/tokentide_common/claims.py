"""Batch boundaries, claimed put-if-absent: whoever claims a start first decides where the batch ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa

from tokentide_common.database import Engine, insert_or, utc_now, writing
from tokentide_common.schema import batch_claims

# A consumer that slept through a rebalance may still work on a batch that others have committed. It is told
# its boundary for this long, far over any session timeout, so that it repeats the batch and forms no other.
SETTLED_FOR: Final = timedelta(hours=1)
# A claim above every committed offset belongs to a topic that was re-created, or to a batch that the topic's
# retention (7 days) took away.
ABANDONED_AFTER: Final = timedelta(days=30)


class Claim(NamedTuple):
    """Where a batch ends, and whether this very call decided it."""

    end: int
    anew: bool
    """False: somebody claimed it before, and may have written the batch already."""


def claim(  # noqa: PLR0917 - the order of the unique key, then the value claimed
    engine: Engine,
    topic: str,
    partition: int,
    start: int,
    fingerprint: str,
    end: int,
    *,
    now: datetime | None = None,
) -> Claim:
    """Claim that the batch from `start` ends at `end`; return the end that was claimed first, to be obeyed.

    `fingerprint` tells apart topics of one name whose offsets began anew. Call it before anything is written.
    Raises `Unavailable` when the database is away: the batch has then no boundary and must not be stored.
    """
    moment = now or utc_now()
    proposed = insert_or(engine, batch_claims).values(
        topic=topic,
        partition=partition,
        start_offset=start,
        fingerprint=fingerprint,
        end_offset=end,
        claimed_at=moment,
    )
    # The update keeps the first claim as it is. Unlike DO NOTHING it waits for a claim in flight and returns
    # the winner in the same statement, so two owners of a partition can never hold different boundaries.
    statement = proposed.on_conflict_do_update(
        index_elements=list(batch_claims.primary_key.columns), set_={"end_offset": batch_claims.c.end_offset}
    ).returning(batch_claims.c.end_offset, batch_claims.c.claimed_at)
    with writing(engine) as connection:
        claimed_end, claimed_at = connection.execute(statement).one()
    return Claim(int(claimed_end), claimed_at == moment)


def forget_claims(
    engine: Engine, topic: str, partition: int, before_offset: int, *, now: datetime | None = None
) -> int:
    """Delete claims that nobody can need any more and return how many.

    Claims that end before `before_offset`, the committed offset, go after an hour; all others, of a topic
    that was re-created, after 30 days.
    """
    moment = now or utc_now()
    settled = sa.and_(
        batch_claims.c.end_offset < before_offset, batch_claims.c.claimed_at < moment - SETTLED_FOR
    )
    statement = sa.delete(batch_claims).where(
        batch_claims.c.topic == topic,
        batch_claims.c.partition == partition,
        sa.or_(settled, batch_claims.c.claimed_at < moment - ABANDONED_AFTER),
    )
    with writing(engine) as connection:
        return connection.execute(statement).rowcount
