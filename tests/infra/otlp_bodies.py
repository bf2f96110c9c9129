"""OTLP bodies for tests: what clients really sent, and any request in either encoding.

The renderings here are protobuf's own (`google.protobuf.json_format`), with OTLP's one exception: ids in hex.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokentide_ingest.otlp import decoding
from tokentide_ingest.otlp.telemetry import Decoded

DATA_DIR: Final = Path(__file__).parents[1] / "data"
REQUESTS: Final[dict[str, type[Message]]] = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
DECODE: Final[dict[str, Callable[..., Decoded[Any]]]] = {
    "logs": decoding.decode_logs,
    "metrics": decoding.decode_metrics,
    "traces": decoding.decode_traces,
}
_IDS: Final = {"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"}


class Capture(NamedTuple):
    """The body of one request that a client sent, decompressed."""

    client: str
    run: str
    name: str
    signal: str
    encoding: Literal["json", "protobuf"]
    body: bytes

    def __str__(self) -> str:
        return f"{self.client}/{self.run}/{self.name}"


@cache
def captures() -> tuple[Capture, ...]:
    """Return every captured request, in the order of each run."""
    return tuple(_capture(path) for path in sorted(DATA_DIR.glob("*/*/otlp/*.bin")))


def rendered(request: Message, *, snake: bool = False, enums: bool = False) -> dict[str, Any]:
    """Return a request in OTLP's JSON mapping."""
    mapped = json_format.MessageToDict(
        request, preserving_proto_field_name=snake, use_integers_for_enums=enums
    )
    return _with_ids(mapped, lambda text: base64.b64decode(text).hex())


def parsed(signal: str, body: bytes) -> Message:
    """Return the message that a JSON body says."""
    mapped = _with_ids(json.loads(body), lambda text: base64.b64encode(bytes.fromhex(text)).decode())
    return json_format.ParseDict(mapped, REQUESTS[signal](), ignore_unknown_fields=True)


def in_both_encodings(capture: Capture) -> tuple[bytes, bytes]:
    """Return a captured request as JSON and as protobuf, one of them as it was sent."""
    if capture.encoding == "json":
        return capture.body, parsed(capture.signal, capture.body).SerializeToString()
    return msgspec.json.encode(rendered(REQUESTS[capture.signal].FromString(capture.body))), capture.body


def _capture(path: Path) -> Capture:
    meta = json.loads(path.with_suffix(".meta.json").read_text())
    body = path.read_bytes()
    if meta.get("content_encoding") == "gzip":
        body = zlib.decompress(body, 16 + zlib.MAX_WBITS)
    encoding: Literal["json", "protobuf"] = "json" if "json" in meta.get("content_type", "") else "protobuf"
    run = path.parents[1]
    return Capture(run.parent.name, run.name, path.stem, meta["signal"], encoding, body)


def _with_ids(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {
            key: change(value) if key in _IDS and isinstance(value, str) else _with_ids(value, change)
            for key, value in node.items()
        }
    return [_with_ids(item, change) for item in node] if isinstance(node, list) else node
