"""The ranker's lease: one holder at a time, with a fence that rises at every change of hands."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Final

from tokentide_common.database import Engine, utc_now
from tokentide_common.leases import acquire_lease, release_lease, renew_lease

_NAME: Final = "ranker"


class Lease:
    """One ranker's claim to be the active one. Raises `Unavailable` when the database is away."""

    def __init__(self, engine: Engine, *, ttl_s: float, now: Callable[[], datetime] = utc_now) -> None:
        self.ttl_s = ttl_s
        self._engine = engine
        self._now = now
        self._holder = f"ranker-{uuid.uuid4().hex}"

    async def acquire(self) -> int | None:
        """Return the fence of a lease taken now, or None while another ranker holds it."""
        return await asyncio.to_thread(
            acquire_lease, self._engine, _NAME, self._holder, ttl_s=self.ttl_s, now=self._now()
        )

    async def confirm(self, fence: int) -> bool:
        """Prolong the lease; False: another ranker has taken over since."""
        return await asyncio.to_thread(
            renew_lease, self._engine, _NAME, self._holder, fence, ttl_s=self.ttl_s, now=self._now()
        )

    async def release(self, fence: int) -> None:
        """Give the lease back, so that another ranker need not wait for its end."""
        await asyncio.to_thread(release_lease, self._engine, _NAME, self._holder, fence, now=self._now())
