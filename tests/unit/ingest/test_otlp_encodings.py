"""Whatever a request says, it says it in JSON and in protobuf alike."""

import contextlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as traces

from infra.otlp_bodies import DECODE, REQUESTS, rendered
from tokentide_common.errors import InvalidRequest
from tokentide_ingest.otlp import protobuf_decoding

KEPT = frozenset({"event.name", "event.timestamp", "model", "input_tokens", "gen_ai.system", "user.id"})
KEYS = st.sampled_from([*sorted(KEPT), "prompt", "", "ünïcode"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TEXTS = TEXT | st.sampled_from(["2026-11-22T01:18:48.853Z", "2026-11-22", "a" * 1024, "a" * 1025])
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1])
TIMES = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1795310328853000000])
SCALARS = st.one_of(
    st.builds(AnyValue, string_value=TEXTS),
    st.builds(AnyValue, int_value=INT64),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=5)),
    st.just(AnyValue()),
)
PAIRS_OF_SCALARS = st.builds(KeyValue, key=KEYS, value=SCALARS)
VALUES = SCALARS | st.one_of(
    st.builds(ArrayValue, values=st.lists(SCALARS, max_size=2)).map(lambda v: AnyValue(array_value=v)),
    st.builds(KeyValueList, values=st.lists(PAIRS_OF_SCALARS, max_size=2)).map(
        lambda v: AnyValue(kvlist_value=v)
    ),
)
ATTRIBUTES = st.lists(st.builds(KeyValue, key=KEYS, value=VALUES) | st.builds(KeyValue, key=KEYS), max_size=6)
RESOURCE = st.builds(Resource, attributes=ATTRIBUTES)

LOGS = st.builds(
    LogRecord,
    time_unix_nano=TIMES,
    observed_time_unix_nano=TIMES,
    event_name=TEXTS,
    body=VALUES,
    attributes=ATTRIBUTES,
)
POINTS = st.builds(
    metrics.NumberDataPoint,
    start_time_unix_nano=TIMES,
    time_unix_nano=TIMES,
    attributes=ATTRIBUTES,
    flags=st.integers(0, 1),
) | st.one_of(
    st.builds(metrics.NumberDataPoint, time_unix_nano=TIMES, as_int=INT64),
    st.builds(metrics.NumberDataPoint, time_unix_nano=TIMES, as_double=st.floats()),
)
SUMS = st.builds(
    metrics.Sum,
    is_monotonic=st.booleans(),
    aggregation_temporality=st.sampled_from([0, 1, 2, 7]),
    data_points=st.lists(POINTS, max_size=3),
)
METRICS = st.builds(metrics.Metric, name=TEXTS, unit=TEXT, sum=SUMS) | st.builds(
    metrics.Metric, name=TEXT, gauge=st.just(metrics.Gauge())
)
SPANS = st.builds(
    traces.Span,
    name=TEXT | st.just("claude_code.llm_request"),
    span_id=st.binary(min_size=8, max_size=8) | st.just(b"short"),
    trace_id=st.binary(min_size=16, max_size=16),
    start_time_unix_nano=TIMES,
    end_time_unix_nano=TIMES,
    status=st.builds(traces.Status, code=st.sampled_from([0, 1, 2])),
    attributes=ATTRIBUTES,
)


def requests(signal: str, container: Any, scopes: str, scope: Any, records: Any) -> st.SearchStrategy[Any]:
    field = {"logs": "log_records", "metrics": "metrics", "traces": "spans"}[signal]
    scoped = st.builds(scope, **{field: st.lists(records, max_size=3)})
    containers = st.builds(container, resource=RESOURCE, **{scopes: st.lists(scoped, max_size=2)})
    outer = scopes.replace("scope", "resource")
    return st.builds(REQUESTS[signal], **{outer: st.lists(containers, max_size=2)}).map(lambda r: (signal, r))


REQUEST = st.one_of(
    requests("logs", ResourceLogs, "scope_logs", ScopeLogs, LOGS),
    requests("metrics", metrics.ResourceMetrics, "scope_metrics", metrics.ScopeMetrics, METRICS),
    requests("traces", traces.ResourceSpans, "scope_spans", traces.ScopeSpans, SPANS),
)


def loosened(node: Any) -> Any:
    """Return the same JSON as careless clients write it: 64-bit numbers bare, absent parts null."""
    if isinstance(node, list):
        return [loosened(item) for item in node]
    if not isinstance(node, dict):
        return node
    bare = {"intValue", "asInt", "timeUnixNano", "observedTimeUnixNano", "startTimeUnixNano"}
    out = {key: int(value) if key in bare else loosened(value) for key, value in node.items()}
    return out if "key" in node or not node else {"attributes": None, "traceState": None} | out


@given(request=REQUEST, snake=st.booleans(), enums=st.booleans())
def test_json_and_protobuf_say_the_same(request: tuple[str, Any], snake: bool, enums: bool) -> None:
    signal, message = request
    as_protobuf = DECODE[signal](message.SerializeToString(), "protobuf", KEPT)
    as_json = rendered(message, snake=snake, enums=enums)
    assert repr(DECODE[signal](msgspec.json.encode(as_json), "json", KEPT)) == repr(as_protobuf)
    if not snake:
        loose = msgspec.json.encode(loosened(as_json))
        assert repr(DECODE[signal](loose, "json", KEPT)) == repr(as_protobuf)


@given(request=REQUEST)
def test_taken_apart_or_parsed_at_once_a_protobuf_request_says_the_same(request: tuple[str, Any]) -> None:
    signal, message = request
    body = message.SerializeToString()
    # An unreadable record at the end has the request taken apart.
    inner = b"\x0a\x03\x12\x01\xff"
    broken = b"\x12" + bytes([len(inner) - 2]) + inner[2:]
    spoiled = body + b"\x0a" + bytes([len(broken)]) + broken
    whole, apart = DECODE[signal](body, "protobuf", KEPT), DECODE[signal](spoiled, "protobuf", KEPT)
    assert repr(apart.items) == repr(whole.items)
    assert apart.rejected == whole.rejected + 1
    assert protobuf_decoding._parsed(REQUESTS[signal], spoiled) is None


@given(request=REQUEST)
def test_what_is_kept_is_scalar_short_named_and_finite(request: tuple[str, Any]) -> None:
    signal, message = request
    for item in DECODE[signal](message.SerializeToString(), "protobuf", KEPT).items:
        for key, value in (*item.attributes.items(), *item.resource.items()):
            assert key in KEPT
            assert isinstance(value, str | int | float)
            assert value == value  # not NaN
            assert not isinstance(value, str) or len(value) <= 1024


@given(body=st.binary(max_size=60), signal=st.sampled_from(sorted(DECODE)))
def test_any_bytes_are_decoded_or_refused(body: bytes, signal: str) -> None:
    for encoding in ("json", "protobuf"):
        with contextlib.suppress(InvalidRequest):
            DECODE[signal](body, encoding, KEPT)
