"""The rules by which decoded fields become flat records, one for both encodings."""

from __future__ import annotations

from typing import Final, NamedTuple

from tokentide_ingest.otlp.telemetry import Attributes, Decoded, LogRecord, Point, Span, Temporality
from tokentide_ingest.otlp.values import MAX_NAME, finite, refuse

_MAX_UNIT: Final = 64
NO_RECORDED_VALUE: Final = 1
"""The flag of a point that says: nothing was measured."""
_TEMPORALITIES: Final[dict[int | float | str | None, Temporality]] = {
    1: "delta",
    2: "cumulative",
    "1": "delta",
    "2": "cumulative",
    "AGGREGATION_TEMPORALITY_DELTA": "delta",
    "AGGREGATION_TEMPORALITY_CUMULATIVE": "cumulative",
}


class Origin(NamedTuple):
    """Where records come from. Records of one resource share its attributes: they are not to be changed."""

    resource: Attributes
    scope: str


class Series(NamedTuple):
    """What the points of a sum have in common."""

    origin: Origin
    metric: str
    unit: str
    temporality: int | float | str | None


def add_log(decoded: Decoded[LogRecord], origin: Origin, name: str, time_ns: int, found: Attributes) -> None:
    """Keep a log record, unless it holds nothing at all that is read."""
    if name or found:
        decoded.items.append(LogRecord(origin.resource, origin.scope, name, time_ns, found))


def add_point(
    decoded: Decoded[Point], series: Series, times_ns: tuple[int, int], value: float | None, found: Attributes
) -> None:
    """Keep a point of a monotonic sum, or refuse it; its times are the start and the time itself."""
    start_ns, time_ns = times_ns
    temporality = _TEMPORALITIES.get(series.temporality)
    if temporality is None:
        refuse(decoded, "a sum's aggregationTemporality is neither delta nor cumulative")
    elif value is None:
        refuse(decoded, "a point has no value")
    elif not finite(value):
        refuse(decoded, "a point's value is not a finite number")
    elif value < 0:
        refuse(decoded, "a point of a monotonic sum is negative")
    elif time_ns == 0:
        refuse(decoded, "a point has no timeUnixNano")
    elif len(series.metric) > MAX_NAME or len(series.unit) > _MAX_UNIT:
        refuse(decoded, "a metric's name or unit is too long")
    else:
        origin = series.origin
        decoded.items.append(
            Point(
                origin.resource,
                origin.scope,
                series.metric,
                series.unit,
                temporality,
                start_ns,
                time_ns,
                value,
                found,
            )
        )


def of_interest(name: str, attributes: Attributes) -> bool:
    """Tell whether a span is about a model: only those become anything."""
    return name.startswith("claude_code.") or any(key.startswith("gen_ai.") for key in attributes)


def add_span(decoded: Decoded[Span], span: Span) -> None:
    """Keep a span that is over, or refuse it."""
    if span.end_ns == 0:
        refuse(decoded, "a span has no endTimeUnixNano")
    else:
        span.name = span.name[:MAX_NAME]
        decoded.items.append(span)
