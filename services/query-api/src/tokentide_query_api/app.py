"""The query API as a Litestar app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State

from tokentide_common.accounts import KeyDirectory
from tokentide_common.broker import Publisher
from tokentide_common.database import Engine, open_database, utc_now
from tokentide_common.errors import TokentideError, Unavailable
from tokentide_common.health import health_routes
from tokentide_common.kept_rows import KeptRows
from tokentide_common.metrics import Metrics
from tokentide_common.pricing import Prices
from tokentide_common.problem_answers import exception_handlers
from tokentide_common.store import Store
from tokentide_query_api.accounts.desk import open_desk
from tokentide_query_api.accounts.routes import account_handlers
from tokentide_query_api.admission_pace import AdmissionPace
from tokentide_query_api.export.route import export_handlers
from tokentide_query_api.kept_answers import KeptAnswers
from tokentide_query_api.landing import PAGES
from tokentide_query_api.leaderboard import Leaderboard
from tokentide_query_api.live.hub import LiveHub
from tokentide_query_api.live.stream import live_handlers
from tokentide_query_api.metering import Metering
from tokentide_query_api.money.budget_routes import Counter, budget_handlers
from tokentide_query_api.money.budget_watch import budgets_watched
from tokentide_query_api.money.repricing import Repricer
from tokentide_query_api.money.repricing_routes import repricing_handlers
from tokentide_query_api.openapi import document
from tokentide_query_api.pseudonyms import Pseudonyms
from tokentide_query_api.routes import Sources, reading_handlers
from tokentide_query_api.security_headers import security_headers
from tokentide_query_api.settings import QuerySettings

_READS_AT_ONCE: Final = 8
_MAX_BODY_BYTES: Final = 1_000_000


def create_app(
    settings: QuerySettings,
    *,
    store: Store | None = None,
    engine: Engine | None = None,
    keys: KeyDirectory | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Litestar:
    """Return the app; `app.state.live.close()` before it is stopped ends the streams that would hold it up.

    What is passed in stays the caller's to start and close; the rest is opened with the app.
    """
    opened: list[Sources] = []
    live, recorded = LiveHub(settings.broker_url), metrics or Metrics()

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(live.stop)
            ours = _sources(settings, store, engine, keys, clock, metrics=recorded)
            opened.append(await stack.enter_async_context(ours))
            stack.callback(opened.clear)
            yield

    def sources() -> Sources:
        if not opened:
            raise Unavailable("the query API is starting or stopping")
        return opened[0]

    def repricer() -> Repricer:
        at = sources()
        return Repricer(at.desk, at.store, at.kept.whole_from_ms, at.prices, at.publisher)

    async def checks() -> Mapping[str, bool]:
        return {"store": await _store_answers(sources().store)}

    pace = AdmissionPace(lambda: sources().desk.rates, settings.trusted_proxies)
    return Litestar(
        [
            *PAGES,
            *reading_handlers(sources),
            *account_handlers(lambda: sources().desk),
            *budget_handlers(lambda: Counter(sources().desk, sources().store)),
            *repricing_handlers(repricer),
            *export_handlers(sources),
            *live_handlers(lambda: sources().desk, live),
            *health_routes(recorded, checks),
        ],
        state=State({"live": live}),
        lifespan=[lifespan],
        exception_handlers=exception_handlers(),
        middleware=[Metering(recorded), pace],
        before_send=[security_headers(settings.public_url)],
        cors_config=_cors(settings.cors_origins),
        request_max_body_size=_MAX_BODY_BYTES,
        openapi_config=document(),
        logging_config=None,
    )


@asynccontextmanager
async def _sources(
    settings: QuerySettings,
    store: Store | None,
    engine: Engine | None,
    keys: KeyDirectory | None,
    clock: Callable[[], datetime],
    *,
    metrics: Metrics,
) -> AsyncIterator[Sources]:
    """Open what was not passed in, and what every answer comes from."""
    async with AsyncExitStack() as stack:
        own_store = store or Store(settings.clickhouse_url, connections=_READS_AT_ONCE)
        if store is None:
            stack.push_async_callback(own_store.close)
        own_engine = engine or open_database(settings.database_url)
        if engine is None:
            stack.callback(own_engine.dispose)
        own_keys = keys or KeyDirectory(own_engine)
        if keys is None:
            stack.push_async_callback(own_keys.stop)
            await own_keys.start()
        desk = await stack.enter_async_context(open_desk(settings, own_engine, own_keys, clock, metrics))
        await stack.enter_async_context(budgets_watched(desk, own_store, own_engine, metrics))
        publisher = Publisher(settings.broker_url, deadline_s=10)
        stack.push_async_callback(publisher.stop)
        prices = await asyncio.to_thread(Prices.load, settings.price_overrides or None)
        kept = KeptRows(own_store, clock)
        await kept.start()
        stack.push_async_callback(kept.stop)
        names, board = Pseudonyms(settings.secret_key), Leaderboard(own_store, kept.whole_from_ms)
        answers = KeptAnswers(own_store, settings.kept_answers_bytes, metrics)
        yield Sources(own_store, desk, names, board, prices, publisher, kept, answers)


def _cors(origins: Sequence[str]) -> CORSConfig | None:
    """Return which pages elsewhere may read answers: of credentials those that they send themselves."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type", "if-match", "x-request-id", "x-tokentide-key"],
        expose_headers=["etag", "link", "retry-after", "x-next-cursor", "x-request-id"],
    )


async def _store_answers(store: Store) -> bool:
    """Say whether the store is there with its tables."""
    try:
        await store.read("SELECT 1 FROM rankings LIMIT 0")
    except TokentideError:
        return False
    return True
