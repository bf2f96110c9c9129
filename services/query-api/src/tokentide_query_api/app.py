"""The query API as a Litestar app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from litestar import Litestar

from tokentide_common.accounts import KeyDirectory
from tokentide_common.database import Engine, open_database, utc_now
from tokentide_common.errors import TokentideError, Unavailable
from tokentide_common.health import health_routes
from tokentide_common.metrics import Metrics
from tokentide_common.problem_answers import exception_handlers
from tokentide_common.store import Store
from tokentide_query_api.landing import landing
from tokentide_query_api.metering import Metering
from tokentide_query_api.openapi import document
from tokentide_query_api.routes import Sources, reading_handlers
from tokentide_query_api.settings import QuerySettings

_READS_AT_ONCE: Final = 8


def create_app(
    settings: QuerySettings,
    *,
    store: Store | None = None,
    engine: Engine | None = None,
    keys: KeyDirectory | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Litestar:
    """Return the app.

    What is passed in stays the caller's to start and close; the rest is opened with the app.
    """
    opened: list[Sources] = []

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        own_store = store or Store(settings.clickhouse_url, connections=_READS_AT_ONCE)
        own_engine = engine or open_database(settings.database_url)
        own_keys = keys or KeyDirectory(own_engine)
        if keys is None:
            await own_keys.start()
        opened.append(Sources(own_store, own_engine, own_keys, clock))
        try:
            yield
        finally:
            opened.clear()
            if keys is None:
                await own_keys.stop()
            if engine is None:
                own_engine.dispose()
            if store is None:
                await own_store.close()

    def sources() -> Sources:
        if not opened:
            raise Unavailable("the query API is starting or stopping")
        return opened[0]

    async def checks() -> Mapping[str, bool]:
        return {"store": await _store_answers(sources().store)}

    recorded = metrics or Metrics()
    return Litestar(
        [landing, *reading_handlers(sources), *health_routes(recorded, checks)],
        lifespan=[lifespan],
        exception_handlers=exception_handlers(),
        middleware=[Metering(recorded)],
        openapi_config=document(),
        logging_config=None,
    )


async def _store_answers(store: Store) -> bool:
    """Say whether the store is there with its tables."""
    try:
        await store.read("SELECT 1 FROM rankings LIMIT 0")
    except TokentideError:
        return False
    return True
