"""A tee in this process, and requests for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from infra.tee_process import KEY, refuse_intake
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_wire import Headers, WireRequest
from tokentide_ingest.otlp.tee import Intake, Tee

__all__ = ["KEY", "counted", "request", "tee_with", "waiting"]
SERVICE = {
    "logs": "logs.v1.LogsService",
    "metrics": "metrics.v1.MetricsService",
    "traces": "trace.v1.TraceService",
}


@contextlib.asynccontextmanager
async def tee_with(
    folder: Path, *, metrics: Metrics | None = None, intake: Intake = refuse_intake, **options: Any
) -> AsyncIterator[Tee]:
    named = {f"otlp_forward_{name}": value for name, value in options.items()}
    settings = ForwardSettings(otlp_forward_queue_dir=str(folder), **named)
    tee = Tee(settings, metrics or Metrics(), intake)
    await tee.start()
    try:
        yield tee
    finally:
        await tee.stop()


def request(
    body: bytes = b"body",
    *headers: tuple[bytes, bytes],
    signal: str = "logs",
    query: str = "",
    grpc: bool = False,
) -> WireRequest:
    path = f"/opentelemetry.proto.collector.{SERVICE[signal]}/Export" if grpc else f"/v1/{signal}"
    given: Headers = tuple(headers)
    return WireRequest("POST", path, query, given, body, grpc)


def waiting(folder: Path) -> list[Path]:
    """Return the files that wait, oldest first."""
    return sorted(folder.rglob("*.request"))


def counted(metrics: Metrics, queue: str, outcome: str) -> int:
    name = f'tokentide_ingest_forward_requests_total{{outcome="{outcome}",queue="{queue}"}} '
    lines = metrics.render().decode().splitlines()
    return int(sum(float(line.removeprefix(name)) for line in lines if line.startswith(name)))
