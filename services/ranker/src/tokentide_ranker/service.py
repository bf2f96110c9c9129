"""The ranker's parts, put together: opened, started and stopped as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import structlog

from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.database import Engine, open_database, utc_now
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_ranker.announcements import build_broker
from tokentide_ranker.leadership import Leadership
from tokentide_ranker.lease import Lease
from tokentide_ranker.ranker import Ranker
from tokentide_ranker.settings import RankerSettings
from tokentide_ranker.term import Parts, serve_term

T = TypeVar("T")

_RETRY_S: Final = 1.0
_log = structlog.get_logger(__name__)


class RankerService:
    """One ranker of however many there are. What is passed in stays the caller's to close.

    `now` is the clock of leases and of current periods.
    """

    def __init__(
        self,
        settings: RankerSettings,
        *,
        store: Store | None = None,
        engine: Engine | None = None,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._shared_store = store
        self._shared_engine = engine
        self._now = now
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._publisher: Publisher | None = None
        self._leadership: Leadership | None = None
        self.metrics = metrics or Metrics()
        self.broker = build_broker(settings.broker_url)

    @property
    def fence(self) -> int | None:
        """The fence of the lease held now; None while standing by."""
        return self._leadership.fence if self._leadership else None

    async def start(self) -> None:
        """Wait for what the ranker needs, then stand by."""
        settings = self._settings
        self._store = store = self._shared_store or Store(settings.clickhouse_url)
        await _until_available(lambda: ensure_topics(settings.broker_url, embedded=settings.embedded))
        await _until_available(lambda: migrate(store))
        engine = self._shared_engine
        if engine is None:
            engine = await _until_available(lambda: asyncio.to_thread(open_database, settings.database_url))
        self._engine = engine
        self._publisher = publisher = Publisher(settings.broker_url, deadline_s=10)
        await publisher.start()
        lease = Lease(engine, ttl_s=settings.rank_lease_seconds, now=self._now)
        ranker = Ranker(
            store, publisher, self.metrics, published_entries=settings.rank_published_entries, now=self._now
        )
        linger_s = settings.rank_linger_ms / 1000
        parts = Parts(self.broker, store, engine, ranker, lease, linger_s, self._now)
        self._leadership = Leadership(lease, partial(serve_term, parts), self.metrics)
        self._leadership.start()

    async def stop(self) -> None:
        """Finish the pass in work, give the lease back and close what was opened here."""
        if self._leadership is not None:
            await self._leadership.stop()
        if self._publisher is not None:
            await self._publisher.stop()
        if self._engine is not None and self._shared_engine is None:
            self._engine.dispose()
        if self._store is not None and self._shared_store is None:
            await self._store.close()
        self._leadership = self._publisher = self._engine = self._store = None

    def alive(self) -> bool:
        """Whether the ranker makes progress, be it active or standing by."""
        return self._leadership is None or self._leadership.alive()

    async def checks(self) -> Mapping[str, bool]:
        """Say whether the ranker is started and its store answers."""
        if self._leadership is None or self._store is None:
            return {"started": False}
        try:
            await self._store.read("SELECT 1 FROM rankings LIMIT 0")
        except Unavailable:
            return {"started": True, "store": False}
        return {"started": True, "store": True}


async def _until_available(step: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await step()
        except Unavailable as exc:
            _log.warning("ranker_waits", code=exc.stable_code)
            await asyncio.sleep(_RETRY_S)
