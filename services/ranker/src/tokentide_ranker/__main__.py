"""`python -m tokentide_ranker`: run a ranker; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import sys

from tokentide_common import logging
from tokentide_common.health import serve_health
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_ranker.app import create_app
from tokentide_ranker.settings import RankerSettings


async def serve(settings: RankerSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish the pass in work and give the lease back."""
    app = create_app(settings)
    service = app.service
    async with serve_health(
        service.metrics,
        service.checks,
        port=settings.health_port,
        host=settings.bind_host,
        alive=service.alive,
    ):
        await app.run()


def main() -> None:
    """Entry point of the process."""
    run_check_flag(sys.argv, RankerSettings)
    settings = load_or_exit(RankerSettings)
    logging.configure(settings.log_format, level=settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
