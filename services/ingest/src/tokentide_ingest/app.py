"""The ingest service as an ASGI app, made from its settings; several may live in one process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from tokentide_common.accounts import KeyDirectory
from tokentide_common.broker import Publisher
from tokentide_common.health import health_routes
from tokentide_common.metrics import Metrics
from tokentide_common.problem_answers import exception_handlers
from tokentide_common.token_bucket import TokenBuckets
from tokentide_common.verdicts import VerdictReader
from tokentide_ingest.connections import Connections
from tokentide_ingest.dispatch import Dispatch
from tokentide_ingest.limit_reports import LimitReports, limit_routes
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.otlp.doors import OtlpDoors
from tokentide_ingest.receiver import BatchReceiver
from tokentide_ingest.routes import batch_routes
from tokentide_ingest.settings import IngestSettings


def create_app(
    settings: IngestSettings, *, keys: KeyDirectory | None = None, metrics: Metrics | None = None
) -> Litestar:
    """Return the app. Keys that are passed in stay the caller's to start and stop; else it opens its own.

    Once it is started, `app.state.otlp_grpc_port` is where it takes OTLP over gRPC.
    """
    metrics = metrics or Metrics()
    publisher = Publisher(settings.broker_url)
    verdicts = VerdictReader(settings.broker_url)
    connections = Connections(settings, publisher, verdicts, keys)
    budget = ByteBudget(settings.ingest_bytes_in_flight)
    metrics.gauge("tokentide_ingest_bytes_in_flight").set_function(lambda: budget.held)
    rate = TokenBuckets(settings.ingest_requests_per_s, settings.ingest_burst_requests)
    dispatch = Dispatch(settings, publisher, verdicts, metrics)
    batches = BatchReceiver(
        dispatch,
        budget,
        metrics,
        read_timeout_s=settings.ingest_read_timeout_s,
        tag_values=settings.tag_values,
        saw=connections.saw,
    )
    reports = LimitReports(
        dispatch, budget, read_timeout_s=settings.ingest_read_timeout_s, saw=connections.saw
    )
    doors = OtlpDoors(settings, dispatch, budget, keys=connections.keys, rate=rate, metrics=metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with connections.open(), doors.open() as app.state.otlp_grpc_port:
            yield

    async def checks() -> Mapping[str, bool]:
        return connections.checks()

    return Litestar(
        [
            *batch_routes(batches, connections.keys, rate, metrics),
            *limit_routes(reports, connections.keys, rate, metrics),
            *doors.routes(),
            *health_routes(metrics, checks),
        ],
        lifespan=[lifespan],
        exception_handlers=exception_handlers(),
        openapi_config=OpenAPIConfig(title="Tokentide ingest", version="1"),
        logging_config=None,
    )
