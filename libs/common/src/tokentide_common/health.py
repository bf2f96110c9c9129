"""`/healthz` (alive), `/readyz` (can serve) and `/metrics`, in any app or on a port of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog
from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler

from tokentide_common.metrics import CONTENT_TYPE, Metrics
from tokentide_common.problem import exception_handlers
from tokentide_common.serving import serving

Checks = Callable[[], Awaitable[Mapping[str, bool]]]
"""Answers, for each thing that a service needs, whether it is there."""
Alive = Callable[[], bool]
"""Answers whether the service still makes progress; never asks other services."""

_CHECK_TIMEOUT_S: Final = 2.0
_log = structlog.get_logger(__name__)


def always_alive() -> bool:
    """Whoever can answer at all is alive: right for a service whose event loop is all it has."""
    return True


async def nothing_needed() -> Mapping[str, bool]:
    """A service that needs nothing else is ready when it answers."""
    return {}


def health_routes(
    metrics: Metrics, checks: Checks = nothing_needed, *, alive: Alive = always_alive
) -> list[HTTPRouteHandler]:
    """Return the three handlers for an app's `route_handlers`.

    Not alive (503 on `/healthz`) means: restart me. Not ready (503 on `/readyz`) means: send me nothing.
    """

    @get("/healthz", include_in_schema=False)
    async def healthz() -> Response[bytes]:
        ok = alive()
        return _answer({"status": "alive" if ok else "stuck"}, ok)

    @get("/readyz", include_in_schema=False)
    async def readyz() -> Response[bytes]:
        found = await _checked(checks)
        ok = all(found.values())
        return _answer({"status": "ready" if ok else "not ready", "checks": found}, ok)

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def prometheus() -> Response[bytes]:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return [healthz, readyz, prometheus]


@contextlib.asynccontextmanager
async def serve_health(
    metrics: Metrics,
    checks: Checks = nothing_needed,
    *,
    port: int,
    host: str = "127.0.0.1",
    alive: Alive = always_alive,
) -> AsyncIterator[int]:
    """Serve the three routes on a port of their own (0: any free one), and yield the port."""
    app = Litestar(
        health_routes(metrics, checks, alive=alive),
        exception_handlers=exception_handlers(),
        openapi_config=None,
        logging_config=None,
    )
    async with serving(app, host=host, port=port, drain_s=1) as bound:
        yield bound


async def _checked(checks: Checks) -> Mapping[str, bool]:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return await checks()
    except Exception:
        # A check that fails or hangs is an answer too, and the probe must get it in time.
        _log.warning("readiness_check_failed", exc_info=True)
        return {"checks": False}


def _answer(body: Mapping[str, Any], ok: bool) -> Response[bytes]:
    return Response(msgspec.json.encode(body), status_code=200 if ok else 503, media_type="application/json")
