"""OTLP requests as clients build them, from the official types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import httpx
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
SCOPE: Final = "com.anthropic.claude_code.events"
SESSION: Final = "9d2a7c1e-0000-4000-8000-000000000001"
# 2026-11-22 11:00 UTC
AT_NS: Final = 1_795_345_200 * 10**9


def key_values(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def any_value(value: Any) -> AnyValue:
    match value:
        case AnyValue():
            return value
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            return AnyValue(string_value=value)


def api_request(request_id: str, *, at_ns: int = AT_NS, **said: Any) -> LogRecord:
    """A call as Claude Code tells it: 10 tokens in, 5 out."""
    attributes = {
        "event.name": "api_request",
        "session.id": SESSION,
        "request_id": request_id,
        "model": "claude-opus-4-5",
        "input_tokens": 10,
        "output_tokens": 5,
        "duration_ms": 1000,
    } | {name.replace("__", "."): value for name, value in said.items()}
    return LogRecord(
        time_unix_nano=at_ns,
        body=AnyValue(string_value="claude_code.api_request"),
        attributes=key_values(attributes),
    )


def tool_decision(**said: Any) -> LogRecord:
    """A decision on an edit, which is an activity."""
    attributes = {
        "event.name": "tool_decision",
        "session.id": SESSION,
        "tool_name": "Edit",
        "decision": "accept",
        "source": "user",
    }
    return LogRecord(time_unix_nano=AT_NS, attributes=key_values(attributes | said))


def logs(records: Iterable[LogRecord], **resource: Any) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    container = request.resource_logs.add()
    named = {name.replace("__", "."): value for name, value in resource.items()}
    container.resource.attributes.extend(key_values({"service.name": "claude-code"} | named))
    scope = container.scope_logs.add()
    scope.scope.name = SCOPE
    scope.log_records.extend(records)
    return request


def lines_of_code(
    added: Iterable[float],
    temporality: int = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA,
    at_ns: int = AT_NS,
) -> ExportMetricsServiceRequest:
    """Points of Claude Code's metric, a second apart."""
    request = ExportMetricsServiceRequest()
    container = request.resource_metrics.add()
    container.resource.attributes.extend(key_values({"service.name": "claude-code"}))
    scope = container.scope_metrics.add()
    scope.scope.name = "com.anthropic.claude_code"
    metric: Metric = scope.metrics.add(name="claude_code.lines_of_code.count")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = temporality  # type: ignore[assignment]  # unknown ones are tested
    for number, value in enumerate(added):
        point = metric.sum.data_points.add()
        point.start_time_unix_nano = at_ns + number * 10**9
        point.time_unix_nano = at_ns + (number + 1) * 10**9
        point.as_double = value
        point.attributes.extend(key_values({"session.id": SESSION, "type": "added"}))
    return request


def body(request: Message, content_type: str) -> bytes:
    """A request as it is sent."""
    if content_type == PROTOBUF:
        return request.SerializeToString()
    return MessageToJson(request).encode()


def status_of(answer: httpx.Response) -> status_pb2.Status:
    """The `google.rpc.Status` in an answer over HTTP."""
    if answer.headers["content-type"] == PROTOBUF:
        return status_pb2.Status.FromString(answer.content)
    return Parse(answer.text, status_pb2.Status())


def retry_seconds(status: status_pb2.Status) -> int:
    """After how long a status asks for a retry; 0: it does not."""
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return int(info.retry_delay.ToSeconds())
    return 0
