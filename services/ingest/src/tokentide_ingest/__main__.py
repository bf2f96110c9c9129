"""Runs the ingest service: `python -m tokentide_ingest`; `--check` prints the effective settings."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine

import structlog

from tokentide_common.logging import configure
from tokentide_common.serving import serving, stop_requested
from tokentide_common.settings import load_or_exit, run_check_flag
from tokentide_ingest.app import create_app
from tokentide_ingest.settings import IngestSettings

if sys.platform != "win32":
    import uvloop


async def serve(settings: IngestSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight."""
    app = create_app(settings)
    async with serving(app, host=settings.bind_host, port=settings.ingest_port) as port:
        structlog.get_logger(__name__).info(
            "serving", host=settings.bind_host, port=port, otlp_grpc_port=app.state.otlp_grpc_port
        )
        tune_garbage_collection()
        await stop_requested()


def tune_garbage_collection() -> None:
    """Look for cycles less often: a batch makes thousands of objects, and events make no cycles."""
    gc.freeze()  # what lives as long as the process is never looked through again
    gc.set_threshold(50_000, 20, 20)


def run(service: Coroutine[None, None, None]) -> None:
    """Run the service on uvloop, which takes a third of the CPU off a batch, where there is one."""
    with asyncio.Runner(loop_factory=None if sys.platform == "win32" else uvloop.new_event_loop) as runner:
        runner.run(service)


def main() -> None:
    """Load the settings and serve."""
    run_check_flag(sys.argv[1:], IngestSettings)
    settings = load_or_exit(IngestSettings)
    configure(settings.log_format, level=settings.log_level)
    run(serve(settings))


if __name__ == "__main__":
    main()
