"""`python -m tokentide_aggregator`: run the aggregator; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping

from tokentide_aggregator.app import running
from tokentide_aggregator.consumer import Consumer
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common import logging
from tokentide_common.database import open_database
from tokentide_common.health import serve_health
from tokentide_common.metrics import Metrics
from tokentide_common.serving import stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_common.store import Store


async def serve(settings: AggregatorSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish the batch in work, commit and leave the group."""
    metrics = Metrics()
    store = Store(settings.clickhouse_url, timeout_s=settings.store_timeout_s)
    engine = open_database(settings.database_url)
    consumers: list[Consumer] = []

    async def checks() -> Mapping[str, bool]:
        return {"partitions": bool(consumers) and consumers[0].ready()}

    def alive() -> bool:
        return not consumers or consumers[0].alive()

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await stack.enter_async_context(
            serve_health(metrics, checks, port=settings.health_port, host=settings.bind_host, alive=alive)
        )
        stopping = asyncio.create_task(stop_requested())
        starting = running(settings, store=store, engine=engine, metrics=metrics)
        consumer, task = await stack.enter_async_context(starting)
        consumers.append(consumer)
        done, _ = await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()


def main() -> None:
    """Entry point of the process."""
    run_check_flag(sys.argv, AggregatorSettings)
    settings = load_or_exit(AggregatorSettings)
    logging.configure(settings.log_format, level=settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
