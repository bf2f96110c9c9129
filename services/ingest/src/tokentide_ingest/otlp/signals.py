"""The three signals: where each is sent to, and what its answers are made of."""

from __future__ import annotations

from typing import Final

import msgspec
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tokentide_ingest.otlp.forward_wire import Signal


class Address(msgspec.Struct, frozen=True):
    """Where a signal arrives, and how its answer counts what was refused."""

    signal: Signal
    path: str
    grpc_service: str
    response: type[Message]
    rejected_field: str


ADDRESSES: Final = (
    Address(
        "logs",
        "/v1/logs",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        ExportLogsServiceResponse,
        "rejected_log_records",
    ),
    Address(
        "metrics",
        "/v1/metrics",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
    Address(
        "traces",
        "/v1/traces",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        ExportTraceServiceResponse,
        "rejected_spans",
    ),
)
