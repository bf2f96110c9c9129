"""The aggregator, put together: started and stopped as one, alone or inside the embedded system.

FastStream is the application around it: signals, lifecycle, order of the end. The hot loop inside reads
the driver's own batches (docs/decisions/0004).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog
from faststream import FastStream
from faststream.kafka import KafkaBroker

from tokentide_aggregator.activity_ledger import ActivityLedger
from tokentide_aggregator.activity_links import ActivityLinks
from tokentide_aggregator.call_ledger import CallLedger
from tokentide_aggregator.consumer import Consumer
from tokentide_aggregator.consumers import Consumers
from tokentide_aggregator.counted_feed import CountedFeed
from tokentide_aggregator.failpoints import failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.ledger import Ledger
from tokentide_aggregator.limits import LimitsConsumer
from tokentide_aggregator.links import Links
from tokentide_aggregator.processing import Processor
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import Publisher, bootstrap_servers, ensure_topics
from tokentide_common.database import Engine, open_database, utc_now
from tokentide_common.kept_rows import KeptRows, keep_rows
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import price_of
from tokentide_common.retention import FOREVER, Kind
from tokentide_common.retry import until_available
from tokentide_common.store import Store

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def running(
    settings: AggregatorSettings, *, store: Store, engine: Engine, metrics: Metrics
) -> AsyncIterator[tuple[Consumers, asyncio.Task[None]]]:
    """Run an aggregator over `store` and `engine`; leave its groups in good order at the end.

    The task ends with an error if something unforeseen happens: let it end the process.
    """
    await until_available("topics", lambda: ensure_topics(settings.broker_url, embedded=settings.embedded))
    await until_available("schema", lambda: migrate(store))
    await until_available("retention", lambda: _keep_rows(settings, store))
    prices = Prices.load(settings.price_overrides or None)
    publisher = Publisher(settings.broker_url, deadline_s=10)

    def consumer(
        ledger: Ledger[Any, Any],
        group: str,
        links: Links | ActivityLinks,
        feed: CountedFeed | None = None,
    ) -> Consumer:
        counted = CountedCalls(store, ledger.index)
        processor = Processor(
            ledger=ledger,
            store=store,
            engine=engine,
            publisher=publisher,
            counted=counted,
            metrics=metrics,
            failpoint=failpoint(settings.failpoint),
            links=links,
            feed=feed,
        )
        return Consumer(settings, group, processor, counted, metrics)

    kept = KeptRows(store)
    calls = CallLedger(price_of(prices), prices.version, is_gone=kept.is_gone)
    links = Links(store)
    consumers = Consumers(
        [
            consumer(calls, settings.consumer_group, links, CountedFeed(publisher)),
            # A group of its own: a group whose members want different topics rebalances at every start.
            consumer(ActivityLedger(), f"{settings.consumer_group}-activity", ActivityLinks(links)),
            LimitsConsumer(settings, f"{settings.consumer_group}-limits", store, publisher, metrics),
        ]
    )
    await publisher.start()
    await kept.start()
    task = asyncio.create_task(consumers.run(), name="aggregator")
    try:
        yield consumers, task
    finally:
        consumers.stop()
        # Whoever awaits the task has its error; here it only ends, however the driver takes a broker's death.
        await asyncio.wait({task})
        await publisher.stop()
        await kept.stop()


async def _keep_rows(settings: AggregatorSettings, store: Store) -> None:
    wanted: dict[Kind, Sequence[str]] = {
        "calls": settings.retention_calls,
        "minutes": settings.retention_minutes,
        "activity": settings.retention_activity,
    }
    for kind in await keep_rows(store, wanted, utc_now()):
        _log.info("retention_changed", kind=kind, days=",".join(wanted[kind]) or FOREVER)


class AggregatorApp(FastStream):
    """An aggregator as a process of its own: `await app.run()` until SIGTERM, SIGINT or an error."""

    def __init__(self, settings: AggregatorSettings) -> None:
        # FastStream's broker has no subscriber and needs no connection: the hot loop is the subscriber.
        broker = KafkaBroker(bootstrap_servers(settings.broker_url), consumer_only=True, logger=None)
        super().__init__(broker, logger=None, lifespan=self._lifespan)
        self.metrics = Metrics()
        self._settings = settings
        self._consumers: Consumers | None = None
        self.failure: BaseException | None = None
        """The error that ended the app, if one did."""

    async def checks(self) -> Mapping[str, bool]:
        """Tell whether it owns partitions of every topic, none of them stopped."""
        return {"partitions": self._consumers is not None and self._consumers.ready()}

    def alive(self) -> bool:
        """Tell whether its loops turn."""
        return self._consumers is None or self._consumers.alive()

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        serving = asyncio.create_task(self._serve(), name="serve")
        serving.add_done_callback(self._ended)
        try:
            yield
        finally:
            if self._consumers is not None:
                self._consumers.stop()  # finish the batch in work, commit, leave the group
            else:
                serving.cancel()  # still waiting for the broker or the store
            await asyncio.wait({serving})

    async def _serve(self) -> None:
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            store = Store(settings.clickhouse_url, timeout_s=settings.store_timeout_s)
            stack.push_async_callback(store.close)
            engine = await until_available(
                "database", lambda: asyncio.to_thread(open_database, settings.database_url)
            )
            stack.callback(engine.dispose)
            parts = running(settings, store=store, engine=engine, metrics=self.metrics)
            self._consumers, ended = await stack.enter_async_context(parts)
            await ended

    def _ended(self, serving: asyncio.Task[None]) -> None:
        if not serving.cancelled():
            self.failure = serving.exception()
        self.exit()
