"""Who ranks: stand by until the lease is free, then rank until it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import structlog

from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_ranker.lease import Lease

Work: TypeAlias = Callable[[int], Coroutine[Any, Any, None]]
"""What the active ranker does under a fence, until it is cancelled; an exception ends its term."""

_RENEWALS_PER_TTL: Final = 4
_STUCK_AFTER_S: Final = 60.0
_log = structlog.get_logger(__name__)


class Leadership:
    """Runs the work of the one active ranker, and stands by while another is active."""

    def __init__(self, lease: Lease, work: Work, metrics: Metrics) -> None:
        self._lease = lease
        self._work = work
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turned_at = time.monotonic()
        self.fence: int | None = None
        """The fence of the lease held now."""

    def alive(self) -> bool:
        """Whether the loop still turns."""
        return (
            self._task is not None
            and not self._task.done()
            and time.monotonic() - self._turned_at < _STUCK_AFTER_S
        )

    def start(self) -> None:
        """Begin to try for the lease."""
        self._stopping.clear()
        self._turned_at = time.monotonic()
        self._metrics.gauge("tokentide_ranker_active").set(0)
        self._task = asyncio.create_task(self._run(), name="ranker-leadership")

    async def stop(self) -> None:
        """End the work and give the lease back, so that another ranker takes over at once."""
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._turned_at = time.monotonic()
            try:
                fence = await self._lease.acquire()
            except Unavailable:
                _log.warning("lease_unavailable")
                fence = None
            if fence is not None:
                await self._lead(fence)
            await self._pause()

    async def _lead(self, fence: int) -> None:
        self._changed("acquired", fence)
        working = asyncio.create_task(self._work(fence))
        keeping = asyncio.create_task(self._keep(fence))
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, keeping):
                task.cancel()
            outcomes = await asyncio.gather(working, keeping, return_exceptions=True)
        if isinstance(outcomes[0], Exception):
            _log.error("ranking_failed", fence=fence, exc_info=outcomes[0])
        lost = keeping.done() and outcomes[1] is False
        if not lost:
            with contextlib.suppress(Unavailable):  # it then ends by itself
                await self._lease.release(fence)
        self._changed("lost" if lost else "released", None)

    async def _keep(self, fence: int) -> bool:
        """Renew the lease until it is lost (False) or the service stops (True)."""
        confirmed_at = time.monotonic()
        while not self._stopping.is_set():
            await self._pause()
            self._turned_at = time.monotonic()
            try:
                if not await self._lease.confirm(fence):
                    return False
                confirmed_at = time.monotonic()
            except Unavailable:
                # Others cannot take the lease either while the database is away for them too; but who cannot
                # know whether he is active stops, and comes back with a higher fence.
                if time.monotonic() - confirmed_at > self._lease.ttl_s:
                    return False
        return True

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._lease.ttl_s / _RENEWALS_PER_TTL)

    def _changed(self, change: str, fence: int | None) -> None:
        self.fence = fence
        self._metrics.counter("tokentide_ranker_lease_changes_total", change=change).inc()
        self._metrics.gauge("tokentide_ranker_active").set(0 if fence is None else 1)
        self._metrics.gauge("tokentide_ranker_fence").set(fence or 0)
        _log.info("lease_changed", change=change, fence=fence)
