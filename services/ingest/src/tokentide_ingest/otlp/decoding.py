"""Bodies of OTLP requests, over HTTP or gRPC, into flat records: what the transports call.

`kept` names the attributes that are read; nothing is built of any other. A body that is unreadable as a whole
raises `InvalidRequest` (`malformed_body`), one with too many records `TooLarge` (`too_many_records`); an
unreadable record is counted in `rejected`, and its neighbours are decoded.
"""

from __future__ import annotations

from typing import Literal

from tokentide_ingest.otlp import json_decoding, protobuf_decoding
from tokentide_ingest.otlp.telemetry import Decoded, LogRecord, Point, Span

Encoding = Literal["json", "protobuf"]
"""A gRPC message is the same bytes as a protobuf body over HTTP."""


def decode_logs(body: bytes | bytearray, encoding: Encoding, kept: frozenset[str]) -> Decoded[LogRecord]:
    """Return the log records of a body."""
    decode = json_decoding.decode_logs if encoding == "json" else protobuf_decoding.decode_logs
    return decode(bytes(body), kept)


def decode_metrics(body: bytes | bytearray, encoding: Encoding, kept: frozenset[str]) -> Decoded[Point]:
    """Return the points of the sums of a body that only rise, and those of few histograms."""
    decode = json_decoding.decode_metrics if encoding == "json" else protobuf_decoding.decode_metrics
    return decode(bytes(body), kept)


def decode_traces(body: bytes | bytearray, encoding: Encoding, kept: frozenset[str]) -> Decoded[Span]:
    """Return the spans of a body that are about a model."""
    decode = json_decoding.decode_traces if encoding == "json" else protobuf_decoding.decode_traces
    return decode(bytes(body), kept)
