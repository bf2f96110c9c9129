"""`/healthz` (alive), `/readyz` (can serve) and `/metrics`, in any Litestar app or on a port of their own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler

from tokentide_common.metrics import Metrics
from tokentide_common.probes import (
    Alive,
    Answered,
    Checks,
    always_alive,
    exposition,
    liveness,
    nothing_needed,
    readiness,
)
from tokentide_common.problem_answers import exception_handlers
from tokentide_common.serving import serving


def health_routes(
    metrics: Metrics, checks: Checks = nothing_needed, *, alive: Alive = always_alive
) -> list[HTTPRouteHandler]:
    """Return the three handlers for an app's `route_handlers`.

    Not alive (503 on `/healthz`) means: restart me. Not ready (503 on `/readyz`) means: send me nothing.
    """

    @get("/healthz", include_in_schema=False)
    async def healthz() -> Response[bytes]:
        return _response(liveness(alive))

    @get("/readyz", include_in_schema=False)
    async def readyz() -> Response[bytes]:
        return _response(await readiness(checks))

    @get("/metrics", include_in_schema=False, sync_to_thread=False)
    def prometheus() -> Response[bytes]:
        return _response(exposition(metrics))

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


def _response(answered: Answered) -> Response[bytes]:
    return Response(answered.body, status_code=answered.status, headers={"content-type": answered.media_type})
