"""Rate limits that all replicas count together, in the accounts database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from tokentide_common.accounts_schema import token_buckets
from tokentide_common.database import insert_or, writing_async
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.token_bucket import too_fast
from tokentide_query_api.rate_limits import LocalBuckets, Pace

_KEPT_S: Final = 3600
_log = structlog.get_logger(__name__)


class SharedBuckets:
    """Buckets in the database, each taken from in one statement, behind one of each replica's own.

    Whom the own one refuses is too fast whatever the others counted: so a flood is no flood of writes. With
    the database away each replica counts for itself: being unable to count is no reason to answer nobody, nor
    everybody.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._alone = (metrics or Metrics()).counter("tokentide_query_rate_limits_alone_total")
        self._away = False
        self._clock = clock
        self._own = LocalBuckets(clock=steady)

    async def admit(self, caller: str, pace: Pace) -> None:
        """Take one request; raises `RateLimited`."""
        await self._own.admit(caller, pace)
        try:
            admitted = await self._take(caller, pace)
        except Unavailable:
            self._note_outage()
            return
        self._away = False
        if not admitted:
            raise too_fast(1 / pace.per_s)

    async def forget_idle(self) -> None:
        """Delete the buckets that are full again. Raises `Unavailable`."""
        idle = token_buckets.c.at < self._clock() - _KEPT_S
        async with writing_async(self._engine) as connection:
            await connection.execute(sa.delete(token_buckets).where(idle))

    def _note_outage(self) -> None:
        self._alone.inc()
        if not self._away:  # once for each outage: a line for each request would be a flood of its own
            self._away = True
            _log.warning("rate_limits_not_shared")

    async def _take(self, caller: str, pace: Pace) -> bool:
        now, burst = self._clock(), float(pace.per_minute)
        bucket = token_buckets.c
        # Clocks of replicas differ a little: time that seems to run backwards fills nothing.
        passed = sa.case((bucket.at < now, now - bucket.at), else_=0.0)
        filled = bucket.left + passed * pace.per_s
        left = sa.case((filled > burst, burst), else_=filled)
        taking = insert_or(self._engine.sync_engine, token_buckets).values(
            bucket=caller[:128], left=burst - 1, at=now
        )
        # An empty bucket is left as it is: then the statement returns no row.
        taking = taking.on_conflict_do_update(
            index_elements=[bucket.bucket],
            set_={"left": left - 1, "at": sa.case((bucket.at < now, now), else_=bucket.at)},
            where=left >= 1,
        )
        async with writing_async(self._engine) as connection:
            return (await connection.execute(taking.returning(bucket.left))).first() is not None
