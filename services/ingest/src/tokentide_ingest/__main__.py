"""Runs the ingest service: `python -m tokentide_ingest`; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import gc
import sys

import structlog

from tokentide_common.logging import configure
from tokentide_common.serving import serving, stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_ingest.app import create_app
from tokentide_ingest.settings import IngestSettings


async def serve(settings: IngestSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    async with serving(create_app(settings), host=settings.bind_host, port=settings.ingest_port) as port:
        structlog.get_logger(__name__).info("serving", host=settings.bind_host, port=port)
        gc.freeze()  # what lives as long as the process is never looked through again
        await stop_requested()


def main() -> None:
    """Load the settings and serve."""
    run_check_flag(sys.argv[1:], IngestSettings)
    settings = load_or_exit(IngestSettings)
    configure(settings.log_format, level=settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
