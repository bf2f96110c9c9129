"""The aggregator, put together: started and stopped as one, alone or inside the embedded system."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tokentide_aggregator.consumer import Consumer
from tokentide_aggregator.failpoints import failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.price_event import price_of
from tokentide_aggregator.processing import Processor
from tokentide_aggregator.retry import until_available
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.database import Engine
from tokentide_common.metrics import Metrics
from tokentide_common.migrate import migrate
from tokentide_common.pricing import Prices
from tokentide_common.store import Store
from tokentide_common.topics import USAGE


@contextlib.asynccontextmanager
async def running(
    settings: AggregatorSettings, *, store: Store, engine: Engine, metrics: Metrics
) -> AsyncIterator[tuple[Consumer, asyncio.Task[None]]]:
    """Run an aggregator over `store` and `engine`; leave the group in good order at the end.

    The task ends with an error if something unforeseen happens: let it end the process.
    """
    await until_available("topics", lambda: ensure_topics(settings.broker_url, embedded=settings.embedded))
    await until_available("schema", lambda: migrate(store))
    prices = Prices.load(settings.price_overrides or None)
    publisher = Publisher(settings.broker_url, deadline_s=10)
    counted = CountedCalls(store)
    processor = Processor(
        topic=USAGE,
        store=store,
        engine=engine,
        publisher=publisher,
        price=price_of(prices),
        price_version=prices.version,
        counted=counted,
        metrics=metrics,
        failpoint=failpoint(settings.failpoint),
    )
    consumer = Consumer(settings, USAGE, processor, counted, metrics)
    await publisher.start()
    task = asyncio.create_task(consumer.run(), name="aggregator")
    try:
        yield consumer, task
    finally:
        consumer.stop()
        with contextlib.suppress(Exception):  # whoever awaits the task has its error; here it only ends
            await task
        await publisher.stop()
