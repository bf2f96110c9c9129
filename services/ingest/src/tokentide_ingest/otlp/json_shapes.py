"""The parts of OTLP's JSON that are read, as loosely typed as clients write them. The rest is passed over."""

from __future__ import annotations

from typing import Any

import msgspec

Number = int | float | str | None
"""64-bit numbers come as numbers and as texts; enums as numbers and as names."""


class Value(msgspec.Struct, rename="camel", gc=False):
    """A scalar value. Lists, maps and bytes are never built."""

    string_value: str | None = None
    int_value: Number = None
    double_value: float | str | None = None
    bool_value: bool | None = None


class Pair(msgspec.Struct, gc=False):
    """A key with its value."""

    key: str = ""
    value: Value | None = None


class Log(msgspec.Struct, rename="camel", gc=False):
    """A log record."""

    time_unix_nano: Number = None
    observed_time_unix_nano: Number = None
    event_name: str | None = None
    body: Value | None = None
    attributes: list[Pair] | None = None


class DataPoint(msgspec.Struct, rename="camel", gc=False):
    """A point of a sum."""

    start_time_unix_nano: Number = None
    time_unix_nano: Number = None
    as_int: Number = None
    as_double: float | str | None = None
    flags: Number = None
    attributes: list[Pair] | None = None


class Sum(msgspec.Struct, rename="camel", gc=False):
    """A metric that adds up."""

    is_monotonic: bool | None = None
    aggregation_temporality: Number = None
    data_points: list[DataPoint] | None = None


class HistogramPoint(msgspec.Struct, rename="camel", gc=False):
    """A point of a histogram; its buckets are not built."""

    start_time_unix_nano: Number = None
    time_unix_nano: Number = None
    sum: float | str | None = None
    flags: Number = None
    attributes: list[Pair] | None = None


class Histogram(msgspec.Struct, rename="camel", gc=False):
    """How often which amounts came, of which the amount of all is read."""

    aggregation_temporality: Number = None
    data_points: list[HistogramPoint] | None = None


class Metric(msgspec.Struct, gc=False):
    """A metric; only a sum is read, and of few metrics the histogram."""

    name: str | None = None
    unit: str | None = None
    sum: Sum | None = None
    histogram: msgspec.Raw = msgspec.Raw()


class Status(msgspec.Struct, gc=False):
    """How a span ended."""

    code: Number = None


class SpanShape(msgspec.Struct, rename="camel", gc=False):
    """A span."""

    name: str | None = None
    span_id: str | None = None
    trace_id: str | None = None
    start_time_unix_nano: Number = None
    end_time_unix_nano: Number = None
    status: Status | None = None
    attributes: list[Pair] | None = None


class _Attributed(msgspec.Struct, gc=False):
    attributes: list[Pair] | None = None


class _Named(msgspec.Struct, gc=False):
    name: str | None = None


def request_decoder(signal: str, records: str, record: type) -> msgspec.json.Decoder[Any]:
    """Return a decoder of a request: `containers`, each `resource` and `scopes`, each `scope` and `records`.

    `signal` is the ending of the outer keys, as in `resourceLogs`; `records` the key of the records.
    """
    scopes = msgspec.defstruct(
        "Scopes",
        [("scope", _Named | None, None), ("records", list[record] | None, None)],  # type: ignore[valid-type] # a type by parameter
        rename={"records": records},
    )
    containers = msgspec.defstruct(
        "Containers",
        [("resource", _Attributed | None, None), ("scopes", list[scopes] | None, None)],  # type: ignore[valid-type] # a type by parameter
        rename={"scopes": f"scope{signal}"},
    )
    request = msgspec.defstruct(
        "Request",
        [("containers", list[containers] | None, None)],  # type: ignore[valid-type] # a type by parameter
        rename={"containers": f"resource{signal}"},
    )
    return msgspec.json.Decoder(request)
