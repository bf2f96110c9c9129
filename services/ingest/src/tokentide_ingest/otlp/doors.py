"""The doors for telemetry, put together: HTTP routes and a gRPC server before one receiver."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from litestar.handlers import HTTPRouteHandler

from tokentide_common.accounts import KeyDirectory
from tokentide_common.metrics import Metrics
from tokentide_common.token_bucket import TokenBuckets
from tokentide_ingest.dispatch import Dispatch
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.otlp.export import tags_of
from tokentide_ingest.otlp.grpc_server import GrpcDoor
from tokentide_ingest.otlp.http import HttpDoor
from tokentide_ingest.otlp.identity_of_sender import Senders
from tokentide_ingest.otlp.receiver import OtlpReceiver
from tokentide_ingest.otlp.reception import Reception
from tokentide_ingest.otlp.tee import Tee
from tokentide_ingest.settings import IngestSettings


class OtlpDoors:
    """Takes telemetry in, and passes it on where the settings name a collector."""

    def __init__(
        self,
        settings: IngestSettings,
        dispatch: Dispatch,
        budget: ByteBudget,
        *,
        keys: Callable[[], KeyDirectory],
        rate: TokenBuckets,
        metrics: Metrics,
    ) -> None:
        max_bytes, read_timeout_s = settings.otlp_max_body_bytes, settings.ingest_read_timeout_s
        loopback_key = "" if settings.otlp_loopback_key == "none" else settings.otlp_loopback_key
        receiver = OtlpReceiver(
            dispatch,
            metrics,
            tags=tags_of(settings.otlp_tag_attributes),
            tag_values=settings.tag_values,
            max_bytes=max_bytes,
        )
        self._settings = settings
        self._tee = Tee(settings, metrics, receiver.intake)
        reception = Reception(
            Senders(keys, rate, loopback_key=loopback_key), receiver, self._tee, budget, metrics
        )
        self._http = HttpDoor(reception, max_bytes=max_bytes, read_timeout_s=read_timeout_s)
        self._grpc = GrpcDoor(reception, max_bytes=max_bytes, read_timeout_s=read_timeout_s)

    def routes(self) -> list[HTTPRouteHandler]:
        """Return the handlers of the HTTP door."""
        return self._http.routes()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Open the gRPC door and yield its port. The end closes it first, then the way to the collector."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._tee.stop)
            await self._tee.start()
            host, port = self._settings.bind_host, self._settings.otlp_grpc_port
            yield await stack.enter_async_context(self._grpc.serving(host, port))
