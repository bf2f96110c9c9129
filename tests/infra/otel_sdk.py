"""A program instrumented with the official OpenTelemetry Python SDK, as users set it up: by environment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

Protocol = Literal["http", "grpc"]


@contextmanager
def exporting_to(ready: dict[str, Any], protocol: Protocol, key: str) -> Iterator[None]:
    """Have the exporters that are made inside find a system and its key in the environment."""
    endpoint = ready["ingest"] if protocol == "http" else f"http://{ready['otlp_grpc']}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        environment.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        if key:
            environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{key}")
        yield


class Program:
    """Reports calls as spans, as log events, and activity as metrics."""

    def __init__(self, ready: dict[str, Any], protocol: Protocol, key: str = "", **resource: str) -> None:
        named = Resource.create({name.replace("__", "."): value for name, value in resource.items()})
        http = protocol == "http"
        with exporting_to(ready, protocol, key):
            spans = http_traces.OTLPSpanExporter() if http else grpc_traces.OTLPSpanExporter()
            records = http_logs.OTLPLogExporter() if http else grpc_logs.OTLPLogExporter()
            points = http_metrics.OTLPMetricExporter() if http else grpc_metrics.OTLPMetricExporter()
        self._traces = TracerProvider(resource=named, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        self._logs = LoggerProvider(resource=named, shutdown_on_exit=False)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(records))
        reader = PeriodicExportingMetricReader(points, export_interval_millis=float("inf"))
        self._metrics = MeterProvider(metric_readers=[reader], resource=named, shutdown_on_exit=False)

    def call(self, response_id: str, model: str, *, input_tokens: int, output_tokens: int) -> None:
        """Report a call as the semantic conventions for generative AI have it."""
        said = {
            "gen_ai.provider.name": "openai",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.response.id": response_id,
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
        }
        with self._traces.get_tracer("program").start_as_current_span(f"chat {model}", attributes=said):
            pass

    def event(self, name: str, **said: Any) -> None:
        """Report an event."""
        attributes = {key.replace("__", "."): value for key, value in said.items()} | {"event.name": name}
        logger = self._logs.get_logger("com.anthropic.claude_code.events")
        logger.emit(LogRecord(timestamp=time.time_ns(), body=f"claude_code.{name}", attributes=attributes))

    def count(self, metric: str, amounts: list[int], **said: Any) -> None:
        """Add to a counter, which is exported after each amount."""
        attributes = {key.replace("__", "."): value for key, value in said.items()}
        counter = self._metrics.get_meter("com.anthropic.claude_code").create_counter(metric)
        for amount in amounts:
            counter.add(amount, attributes)
            assert self._metrics.force_flush()

    def flush(self) -> None:
        """Send the spans, as often as it takes."""
        assert self._traces.force_flush()

    def end(self) -> None:
        """Send what is left and stop."""
        self.flush()
        assert self._logs.force_flush()
        self._traces.shutdown()
        self._logs.shutdown()
        self._metrics.shutdown()
