"""`python -m tokentide_proxy`: run the proxy; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import sys

from tokentide_common import logging
from tokentide_common.serving import serving, stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_proxy.app import create_app
from tokentide_proxy.settings import ProxySettings


async def serve(settings: ProxySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with serving(create_app(settings), host=settings.bind_host, port=settings.proxy_port):
        await stop_requested()


def main() -> None:
    """Entry point of the process."""
    run_check_flag(sys.argv, ProxySettings)
    settings = load_or_exit(ProxySettings)
    logging.configure(settings.log_format, level=settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
