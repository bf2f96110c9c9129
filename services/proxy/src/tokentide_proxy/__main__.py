"""Runs the proxy: `python -m tokentide_proxy`; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine

import structlog

from tokentide_common.logging import configure
from tokentide_common.serving import serving, stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_proxy.app import create_app, serving_options
from tokentide_proxy.settings import ProxySettings

if sys.platform != "win32":
    import uvloop


async def serve(settings: ProxySettings) -> None:
    """Serve until SIGTERM or SIGINT, then let live streams end."""
    async with serving(
        create_app(settings),
        host=settings.bind_host,
        port=settings.proxy_port,
        drain_s=settings.proxy_drain_s,
        options=serving_options(settings),
    ) as port:
        structlog.get_logger(__name__).info("serving", host=settings.bind_host, port=port)
        tune_garbage_collection()
        await stop_requested()


def tune_garbage_collection() -> None:
    """Look for cycles less often: it was a third of the time of a request."""
    gc.freeze()  # what lives as long as the process is never looked through again
    gc.set_threshold(10_000, 4, 10)  # rarer still saves no time, and what waits to be found was 8 MB


def run(service: Coroutine[None, None, None]) -> None:
    """Run the service on uvloop where there is one."""
    with asyncio.Runner(loop_factory=None if sys.platform == "win32" else uvloop.new_event_loop) as runner:
        runner.run(service)


def main() -> None:
    """Load the settings and serve."""
    run_check_flag(sys.argv[1:], ProxySettings)
    settings = load_or_exit(ProxySettings)
    configure(settings.log_format, level=settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
