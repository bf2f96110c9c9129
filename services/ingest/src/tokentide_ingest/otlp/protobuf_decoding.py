"""OTLP requests in protobuf: the official types, walked once, into flat records.

A request is parsed in one go. Only where that fails, or where so many bytes could be blown up too far, it is
taken apart first, so that an unreadable record costs itself and not its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from tokentide_ingest.otlp.flat import (
    NO_RECORDED_VALUE,
    Origin,
    Series,
    add_log,
    add_point,
    add_span,
    of_interest,
)
from tokentide_ingest.otlp.kept import HISTOGRAMS
from tokentide_ingest.otlp.telemetry import Attributes, Decoded, LogRecord, Point, Scalar, Span
from tokentide_ingest.otlp.values import (
    MAX_TEXT,
    check_count,
    event_name,
    finite,
    malformed,
    name_in_body,
    refuse,
    stated_nanos,
)
from tokentide_ingest.otlp.wire import pieces

# Two bytes can become a record of over a hundred: what a hostile body of this size can do is harmless.
_ONE_PASS_BYTES: Final = 2**20
_MAX_RECORD_BYTES: Final = 2**21


M = TypeVar("M", bound=Message)


class _Signal(NamedTuple):
    """The names that one form has in the three signals."""

    request: type[Message]
    containers: str
    scopes: str
    records: str
    record: type[Message]


_LOGS: Final = _Signal(
    ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records", logs_pb2.LogRecord
)
_METRICS: Final = _Signal(
    ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics", metrics_pb2.Metric
)
_TRACES: Final = _Signal(ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans", trace_pb2.Span)


def decode_logs(body: bytes, kept: frozenset[str]) -> Decoded[LogRecord]:
    """Return the log records of an `ExportLogsServiceRequest`."""
    decoded: Decoded[LogRecord] = Decoded([])
    for origin, records in _scopes(_LOGS, body, kept, decoded):
        for record in records:
            found = _attributes(record.attributes, kept)
            name = event_name(record.event_name, found) or name_in_body(record.body.string_value)
            time_ns = record.time_unix_nano or record.observed_time_unix_nano or stated_nanos(found)
            add_log(decoded, origin, name, time_ns, found)
    return decoded


def decode_metrics(body: bytes, kept: frozenset[str]) -> Decoded[Point]:
    """Return the points of the sums of an `ExportMetricsServiceRequest` that only rise."""
    decoded: Decoded[Point] = Decoded([])
    for origin, metrics in _scopes(_METRICS, body, kept, decoded):
        for metric in metrics:
            if metric.HasField("sum") and metric.sum.is_monotonic:
                series = Series(origin, metric.name, metric.unit, metric.sum.aggregation_temporality)
                check_count(len(decoded.items) + decoded.rejected + len(metric.sum.data_points))
                _add_points(decoded, series, metric.sum.data_points, kept)
            elif metric.name in HISTOGRAMS and metric.HasField("histogram"):
                series = Series(origin, metric.name, metric.unit, metric.histogram.aggregation_temporality)
                check_count(len(decoded.items) + decoded.rejected + len(metric.histogram.data_points))
                _add_sums(decoded, series, metric.histogram.data_points, kept)
    return decoded


def decode_traces(body: bytes, kept: frozenset[str]) -> Decoded[Span]:
    """Return the spans of an `ExportTraceServiceRequest` that are about a model."""
    decoded: Decoded[Span] = Decoded([])
    for origin, spans in _scopes(_TRACES, body, kept, decoded):
        for span in spans:
            found = _attributes(span.attributes, kept)
            if of_interest(span.name, found):
                _add_span(decoded, origin, span, found)
    return decoded


def _scopes(
    signal: _Signal, body: bytes, kept: frozenset[str], decoded: Decoded[Any]
) -> Iterator[tuple[Origin, Iterable[Any]]]:
    small = len(body) <= _ONE_PASS_BYTES
    request = _parsed(signal.request, body) if small else None
    if request is None:
        yield from _scopes_apart(signal, body, kept, decoded)
        if small and not decoded.rejected:
            raise malformed("the body is not readable protobuf")  # and none of its records is to blame
        return
    taken = len(getattr(request, signal.containers))
    for container in getattr(request, signal.containers):
        resource = _attributes(container.resource.attributes, kept)
        taken += len(getattr(container, signal.scopes))
        check_count(taken)
        for scope in getattr(container, signal.scopes):
            records = getattr(scope, signal.records)
            taken += len(records)
            check_count(taken)
            yield Origin(resource, _scope_name(scope.scope)), records


def _scopes_apart(
    signal: _Signal, body: bytes, kept: frozenset[str], decoded: Decoded[Any]
) -> Iterator[tuple[Origin, Iterable[Any]]]:
    for piece in pieces(body):
        resource, scope = _parsed(Resource, piece.resource), _parsed(InstrumentationScope, piece.scope)
        if resource is None or scope is None:
            raise malformed("a resource or a scope is not readable protobuf")
        origin = Origin(_attributes(resource.attributes, kept), _scope_name(scope))
        yield origin, _readable(signal.record, piece.records, decoded)


def _readable(kind: type[Message], records: list[memoryview], decoded: Decoded[Any]) -> Iterator[Any]:
    for raw in records:
        record = _parsed(kind, raw.tobytes()) if raw.nbytes <= _MAX_RECORD_BYTES else None
        if record is None:
            refuse(decoded, f"a {kind.DESCRIPTOR.name} is not readable: too large, too deep, or not UTF-8")
        else:
            yield record


def _parsed(kind: type[M], body: bytes) -> M | None:
    try:
        return kind.FromString(body)
    except DecodeError:
        return None


def _scope_name(scope: InstrumentationScope) -> str:
    return scope.name if len(scope.name) <= MAX_TEXT else ""


def _attributes(pairs: Iterable[KeyValue], kept: frozenset[str]) -> Attributes:
    """Return the attributes that are read; of a key that comes twice, the last."""
    found: Attributes = {}
    for pair in pairs:
        key = pair.key
        if key in kept:
            value = pair.value
            # Most values are texts and numbers other than 0: asking which one it is costs more than reading.
            if text := value.string_value:
                if len(text) <= MAX_TEXT:
                    found[key] = text
            elif number := value.int_value:
                found[key] = number
            elif (rare := _rare_value(value)) is not None:
                found[key] = rare
    return found


def _rare_value(value: AnyValue) -> Scalar | None:
    match value.WhichOneof("value"):
        case "double_value":
            return value.double_value if finite(value.double_value) else None
        case "bool_value":
            return value.bool_value
        case "int_value":
            return 0
        case "string_value":
            return ""
        case _:
            return None


def _add_points(
    decoded: Decoded[Point],
    series: Series,
    points: Iterable[metrics_pb2.NumberDataPoint],
    kept: frozenset[str],
) -> None:
    for point in points:
        which = point.WhichOneof("value")
        if which is None and point.flags & NO_RECORDED_VALUE:
            continue
        value = point.as_int if which == "as_int" else point.as_double if which else None
        times_ns = point.start_time_unix_nano, point.time_unix_nano
        add_point(decoded, series, times_ns, value, _attributes(point.attributes, kept))


def _add_sums(
    decoded: Decoded[Point],
    series: Series,
    points: Iterable[metrics_pb2.HistogramDataPoint],
    kept: frozenset[str],
) -> None:
    for point in points:
        value = point.sum if point.HasField("sum") else None
        if value is None and point.flags & NO_RECORDED_VALUE:
            continue
        times_ns = point.start_time_unix_nano, point.time_unix_nano
        add_point(decoded, series, times_ns, value, _attributes(point.attributes, kept))


def _add_span(decoded: Decoded[Span], origin: Origin, span: trace_pb2.Span, found: Attributes) -> None:
    if len(span.span_id) != 8 or len(span.trace_id) != 16:
        refuse(decoded, "a span's spanId, traceId or time is malformed")
        return
    flat = Span(
        resource=origin.resource,
        scope=origin.scope,
        name=span.name,
        span_id=span.span_id.hex(),
        trace_id=span.trace_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes=found,
    )
    add_span(decoded, flat)
