"""`python -m tokentide_aggregator`: run the aggregator; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import gc
import sys

from tokentide_aggregator.allocator import share_one_arena
from tokentide_aggregator.app import AggregatorApp
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common import logging
from tokentide_common.health import serve_health
from tokentide_common.settings import load_or_exit, run_check_flag


async def serve(settings: AggregatorSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish the batch in work, commit and leave the group."""
    app = AggregatorApp(settings)
    async with serve_health(
        app.metrics, app.checks, port=settings.health_port, host=settings.bind_host, alive=app.alive
    ):
        tune_garbage_collection()
        await app.run()
    if app.failure is not None:
        raise app.failure


def tune_garbage_collection() -> None:
    """Look for cycles rarely: a block makes hundreds of thousands of objects, and they make no cycles.

    Measured: 9 of 60 microseconds per event.
    """
    gc.freeze()  # what lives as long as the process is never looked through again
    gc.set_threshold(200_000, 20, 50)


def main() -> None:
    """Entry point of the process."""
    run_check_flag(sys.argv, AggregatorSettings)
    settings = load_or_exit(AggregatorSettings)
    logging.configure(settings.log_format, level=settings.log_level)
    share_one_arena()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
