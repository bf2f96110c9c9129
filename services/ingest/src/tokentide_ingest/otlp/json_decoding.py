"""OTLP requests in JSON, as clients really write them, into flat records.

A request is decoded in one go. Only where that fails each record is decoded on its own, so that a malformed
one costs itself and not its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from tokentide_common.errors import TooLarge
from tokentide_ingest.otlp.flat import (
    NO_RECORDED_VALUE,
    Origin,
    Series,
    add_log,
    add_point,
    add_span,
    of_interest,
)
from tokentide_ingest.otlp.json_shapes import (
    DataPoint,
    Histogram,
    HistogramPoint,
    Log,
    Metric,
    Pair,
    SpanShape,
    Value,
    request_decoder,
)
from tokentide_ingest.otlp.kept import HISTOGRAMS
from tokentide_ingest.otlp.lone_surrogates import without_lone_surrogates
from tokentide_ingest.otlp.shallow import shallow
from tokentide_ingest.otlp.telemetry import Attributes, Decoded, LogRecord, Point, Scalar, Span
from tokentide_ingest.otlp.values import (
    MAX_INT64,
    MAX_TEXT,
    check_count,
    event_name,
    finite,
    floating,
    hexadecimal,
    int64,
    malformed,
    name_in_body,
    nanos,
    refuse,
    stated_nanos,
    whole,
)

# What a hostile body of this size can be blown up to is harmless; a larger one is looked at first.
_UNJUDGED_BYTES: Final = 2**21
_MAX_ELEMENTS: Final = 1_500_000
_MAX_REASON: Final = 200
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ERROR_STATUS: Final = frozenset({2, "2", "STATUS_CODE_ERROR"})
# A quote inside a text is escaped, so this finds keys only.
_SNAKE_KEY: Final = re.compile(rb'"[a-z]+(?:_[a-z]+)+"(?=\s*:)')
_UNDERSCORE: Final = re.compile(rb"_([a-z])")


class _Signal(NamedTuple):
    """How the requests of a signal are decoded: at once, records left raw, one record."""

    whole: msgspec.json.Decoder[Any]
    apart: msgspec.json.Decoder[Any]
    record: msgspec.json.Decoder[Any]


def _signal(signal: str, records: str, record: type) -> _Signal:
    return _Signal(
        request_decoder(signal, records, record),
        request_decoder(signal, records, msgspec.Raw),
        msgspec.json.Decoder(record),
    )


_LOGS: Final = _signal("Logs", "logRecords", Log)
_METRICS: Final = _signal("Metrics", "metrics", Metric)
_TRACES: Final = _signal("Spans", "spans", SpanShape)
_histograms: Final[msgspec.json.Decoder[Histogram | None]] = msgspec.json.Decoder(Histogram | None)


def decode_logs(body: bytes, kept: frozenset[str]) -> Decoded[LogRecord]:
    """Return the log records of a request to `/v1/logs`."""
    decoded: Decoded[LogRecord] = Decoded([])
    for origin, records in _scopes(_LOGS, body, kept, decoded):
        for record in records:
            _add_log(decoded, origin, record, kept)
    return decoded


def decode_metrics(body: bytes, kept: frozenset[str]) -> Decoded[Point]:
    """Return the points of the sums of a request to `/v1/metrics` that only rise."""
    decoded: Decoded[Point] = Decoded([])
    for origin, metrics in _scopes(_METRICS, body, kept, decoded):
        for metric in metrics:
            summed = metric.sum if metric.sum and metric.sum.is_monotonic else _histogram(metric, decoded)
            if summed and summed.data_points:
                temporality = summed.aggregation_temporality
                series = Series(origin, metric.name or "", metric.unit or "", temporality)
                check_count(len(decoded.items) + decoded.rejected + len(summed.data_points))
                for point in summed.data_points:
                    _add_point(decoded, series, point, kept)
    return decoded


def _histogram(metric: Metric, decoded: Decoded[Point]) -> Histogram | None:
    if metric.name not in HISTOGRAMS or not memoryview(metric.histogram).nbytes:
        return None
    try:
        return _histograms.decode(metric.histogram)
    except _UNREADABLE:
        refuse(decoded, "a histogram is malformed")
        return None


def decode_traces(body: bytes, kept: frozenset[str]) -> Decoded[Span]:
    """Return the spans of a request to `/v1/traces` that are about a model."""
    decoded: Decoded[Span] = Decoded([])
    for origin, spans in _scopes(_TRACES, body, kept, decoded):
        for span in spans:
            found = _attributes(span.attributes, kept)
            if of_interest(span.name or "", found):
                _add_span(decoded, origin, span, found)
    return decoded


def _scopes(
    signal: _Signal, body: bytes, kept: frozenset[str], decoded: Decoded[Any]
) -> Iterator[tuple[Origin, Iterable[Any]]]:
    request, raw = _open(signal, body)
    if request.containers is None and _SNAKE_KEY.search(body):
        request, raw = _open(signal, _SNAKE_KEY.sub(_camel, body))
    taken = len(request.containers or ())
    for container in request.containers or ():
        resource = _attributes(container.resource.attributes, kept) if container.resource else {}
        taken += len(container.scopes or ())
        check_count(taken)
        for scope in container.scopes or ():
            records = scope.records or []
            taken += len(records)
            check_count(taken)
            name = (scope.scope and scope.scope.name) or ""
            origin = Origin(resource, name if len(name) <= MAX_TEXT else "")
            yield origin, _readable(signal.record, records, decoded) if raw else records


def _open(signal: _Signal, body: bytes) -> tuple[Any, bool]:
    """Return the request, and whether its records are still raw because one of them is malformed."""
    if len(body) > _UNJUDGED_BYTES and body.count(b"{") + body.count(b",") > _MAX_ELEMENTS:
        raise TooLarge("the body has too many elements; send smaller batches", code="too_many_records")
    try:
        return signal.whole.decode(body), False
    except RecursionError:
        body = shallow(body)
    except _UNREADABLE:
        pass
    body = without_lone_surrogates(body)
    try:
        return signal.apart.decode(body), True
    except msgspec.ValidationError as error:
        raise malformed(f"not an OTLP request: {error}"[:_MAX_REASON]) from None
    except _UNREADABLE:
        raise malformed("the body is not JSON, or nested too deeply") from None


def _readable(
    decoder: msgspec.json.Decoder[Any], records: list[msgspec.Raw], decoded: Decoded[Any]
) -> Iterator[Any]:
    for raw in records:
        try:
            record = decoder.decode(raw)
        except msgspec.ValidationError as error:
            refuse(decoded, f"a record is malformed: {error}"[:_MAX_REASON])
        except _UNREADABLE:
            refuse(decoded, "a record is not readable: not UTF-8, or nested too deeply")
        else:
            yield record


def _camel(key: re.Match[bytes]) -> bytes:
    return _UNDERSCORE.sub(lambda found: found[1].upper(), key[0])


def _attributes(pairs: list[Pair] | None, kept: frozenset[str]) -> Attributes:
    """Return the attributes that are read; of a key that comes twice, the last."""
    found: Attributes = {}
    for pair in pairs or ():
        if (key := pair.key) in kept and (value := pair.value) is not None:
            if (text := value.string_value) is not None:
                if len(text) <= MAX_TEXT:
                    found[key] = text
            # Nearly all numbers are whole and bare: to ask further costs more than to read them.
            elif type(count := value.int_value) is int and -MAX_INT64 <= count <= MAX_INT64:
                found[key] = count
            elif (number := _number(value)) is not None:
                found[key] = number
    return found


def _number(value: Value) -> Scalar | None:
    count = value.int_value
    try:
        if count is not None:
            return int64(count)
        if (amount := value.double_value) is not None:
            number = floating(amount)
            return number if finite(number) else None
    except ValueError:
        return None
    return value.bool_value


def _add_log(decoded: Decoded[LogRecord], origin: Origin, record: Log, kept: frozenset[str]) -> None:
    found = _attributes(record.attributes, kept)
    name = event_name(record.event_name, found)
    if not name and record.body:
        name = name_in_body(record.body.string_value)
    try:
        time_ns = nanos(record.time_unix_nano) or nanos(record.observed_time_unix_nano)
    except ValueError:
        refuse(decoded, "a log record's timeUnixNano or observedTimeUnixNano is not a time")
        return
    add_log(decoded, origin, name, time_ns or stated_nanos(found), found)


def _add_point(
    decoded: Decoded[Point], series: Series, point: DataPoint | HistogramPoint, kept: frozenset[str]
) -> None:
    try:
        value = _point_value(point)
        if value is None and whole(point.flags) & NO_RECORDED_VALUE:
            return
        times_ns = nanos(point.start_time_unix_nano), nanos(point.time_unix_nano)
    except ValueError:
        refuse(decoded, "a point's number or time is malformed")
        return
    add_point(decoded, series, times_ns, value, _attributes(point.attributes, kept))


def _point_value(point: DataPoint | HistogramPoint) -> float | None:
    if isinstance(point, HistogramPoint):
        return None if point.sum is None else floating(point.sum)
    if point.as_int is not None:
        return int64(point.as_int)
    return None if point.as_double is None else floating(point.as_double)


def _add_span(decoded: Decoded[Span], origin: Origin, span: SpanShape, found: Attributes) -> None:
    try:
        flat = Span(
            resource=origin.resource,
            scope=origin.scope,
            name=span.name or "",
            span_id=hexadecimal(span.span_id, 16),
            trace_id=hexadecimal(span.trace_id, 32),
            start_ns=nanos(span.start_time_unix_nano),
            end_ns=nanos(span.end_time_unix_nano),
            failed=span.status is not None and span.status.code in _ERROR_STATUS,
            attributes=found,
        )
    except ValueError:
        refuse(decoded, "a span's spanId, traceId or time is malformed")
        return
    add_span(decoded, flat)
