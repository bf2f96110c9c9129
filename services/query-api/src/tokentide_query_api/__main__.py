"""`python -m tokentide_query_api`: serve the query API until a signal asks to stop."""

from __future__ import annotations

import asyncio
import gc
import sys

from tokentide_common import logging
from tokentide_common.serving import serving, stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings


async def serve(settings: QuerySettings) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in work."""
    app = create_app(settings)
    async with serving(app, host=settings.bind_host, port=settings.query_port):
        tune_garbage_collection()
        await stop_requested()
        app.state.live.close()


def tune_garbage_collection() -> None:
    """Look for cycles less often: an answer makes thousands of objects, and its rows make no cycles."""
    gc.freeze()  # what lives as long as the process is never looked through again
    gc.set_threshold(10_000, 10, 10)  # rarer still saves no time, and what waits to be found was 100 MB


def main() -> None:
    """Run the service."""
    run_check_flag(sys.argv[1:], QuerySettings)
    settings = load_or_exit(QuerySettings)
    logging.configure(settings.log_format, level=settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
