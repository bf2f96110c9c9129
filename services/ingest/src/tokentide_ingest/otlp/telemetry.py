"""What the receiver keeps of OTLP, whichever encoding it came in: flat, and free of everything nested.

Attribute values are text, whole numbers, floats and flags. Lists, maps and bytes hold content or nothing
that is counted: they never get past the decoder.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

Scalar = str | int | float | bool
Attributes = dict[str, Scalar]
Temporality = Literal["delta", "cumulative"]
T = TypeVar("T")


class LogRecord(msgspec.Struct, gc=False):
    """A log record, which for our clients is an event."""

    resource: Attributes
    scope: str
    name: str
    """Its name: the attribute `event.name`, else the record's `eventName`, else a body that is one."""
    time_ns: int
    """`timeUnixNano`, else the observed time, else the attribute `event.timestamp`; 0: none is known."""
    attributes: Attributes


class Point(msgspec.Struct, gc=False):
    """A number of a metric that adds up: a point of a monotonic sum, or the sum that a histogram has too."""

    resource: Attributes
    scope: str
    metric: str
    unit: str
    temporality: Temporality
    start_ns: int
    time_ns: int
    value: int | float
    attributes: Attributes


class Span(msgspec.Struct, gc=False):
    """A finished span."""

    resource: Attributes
    scope: str
    name: str
    span_id: str
    """16 hex digits."""
    trace_id: str
    """32 hex digits."""
    start_ns: int
    end_ns: int
    failed: bool
    """Its status is an error."""
    attributes: Attributes


class Decoded(msgspec.Struct, Generic[T]):
    """What a request holds, and what of it could not be read."""

    items: list[T]
    rejected: int = 0
    """Records, points or spans that are refused: partial success tells the sender."""
    reasons: list[str] = []
    """Why, each once and at most ten; names a field, never quotes a value."""
