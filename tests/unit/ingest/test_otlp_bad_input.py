"""Bad input has a specified answer, costs bounded memory, and never the records next to it."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from infra import otlp_hostile
from infra.otlp_bodies import DECODE, parsed
from infra.otlp_hostile import SMALL, STATUS, field, logs_json, logs_protobuf, too_large
from tokentide_common.errors import InvalidRequest, TooLarge
from tokentide_ingest.otlp.decoding import Encoding, decode_logs, decode_metrics
from tokentide_ingest.otlp.shallow import shallow
from tokentide_ingest.otlp.telemetry import Decoded, Point
from tokentide_ingest.otlp.telemetry import LogRecord as Flat

KEPT = frozenset({"event.name", "model", "gen_ai.system"})
ENCODINGS: tuple[Encoding, ...] = ("json", "protobuf")
SECRET = "the-users-prompt"


def good(name: str, encoding: Encoding) -> bytes:
    if encoding == "json":
        return msgspec.json.encode({"eventName": name, "timeUnixNano": "5"})
    return LogRecord(event_name=name, time_unix_nano=5).SerializeToString()


def nested(levels: int, encoding: Encoding) -> bytes:
    if encoding == "json":
        deep = b'{"arrayValue":{"values":[' * levels + b"{}" + b"]}}" * levels
        return b'{"eventName":"deep","attributes":[{"key":"model","value":' + deep + b"}]}"
    value = b""
    for _ in range(levels):
        value = field(5, field(1, value))  # AnyValue.array_value, ArrayValue.values
    pair = field(1, b"model") + field(2, value)
    return LogRecord(event_name="deep").SerializeToString() + field(6, pair)


def with_neighbours(bad: bytes, encoding: Encoding) -> Decoded[Flat]:
    body = logs_json if encoding == "json" else logs_protobuf
    return decode_logs(body(good("before", encoding), bad, good("after", encoding)), encoding, KEPT)


def names(decoded: Decoded[Flat]) -> list[str]:
    return [item.name for item in decoded.items]


@pytest.mark.parametrize("signal", DECODE)
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("json", b""),
        ("json", b"null"),
        ("json", b"[]"),
        ("json", b"{"),
        ("json", b'{"resourceLogs":[{'),
        ("json", b'{"a":NaN}'),
        ("json", b'{"a":Infinity}'),
        ("json", b"{} {}"),
        ("json", b"\xef\xbb\xbf{}"),
        ("json", b"\x1f\x8b\x08\x00"),
        ("json", b'{"a":' + b"[" * 200_000 + b"]" * 199_999 + b"}"),
        ("protobuf", b"\x0a\x05\x12"),
        ("protobuf", b"\x0a"),
        ("protobuf", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("protobuf", b'{"resourceLogs":[]}'),
        ("protobuf", b"\x1f\x8b\x08\x00"),
        ("protobuf", b"\x0b\x0b\x0b"),
        ("protobuf", b"\x00" * 4),
        ("protobuf", field(1, field(1, b"\xff") + field(2, b""))),
        ("protobuf", field(1, field(1, field(1, field(1, b"\xff"))))),
    ],
)
def test_a_body_that_is_unreadable_as_a_whole_is_malformed(
    signal: str, encoding: Encoding, body: bytes
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DECODE[signal](body, encoding, KEPT)
    assert (refused.value.status, refused.value.stable_code) == (400, "malformed_body")


@pytest.mark.parametrize("signal", DECODE)
def test_an_empty_protobuf_body_is_an_empty_request(signal: str) -> None:
    assert DECODE[signal](b"", "protobuf", KEPT).items == []


def test_a_request_cut_anywhere_is_refused_or_read_up_to_a_boundary() -> None:
    body = logs_protobuf(good("a", "protobuf"), good("b", "protobuf"))
    for end in range(1, len(body)):
        with pytest.raises(InvalidRequest):
            decode_logs(body[:end], "protobuf", KEPT)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bytearray_is_a_body_too(encoding: Encoding) -> None:
    body = (logs_json if encoding == "json" else logs_protobuf)(good("a", encoding))
    assert names(decode_logs(bytearray(body), encoding, KEPT)) == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"timeUnixNano":{}}',
        b'{"timeUnixNano":"soon"}',
        b'{"timeUnixNano":-1}',
        b'{"timeUnixNano":1e99}',
        b'{"timeUnixNano":"99999999999999999999"}',
        b'{"timeUnixNano":' + b"9" * 5000 + b"}",
        b'{"attributes":{"a":1}}',
        b'{"attributes":[1]}',
        b'{"attributes":[{"key":"model","value":"the-users-prompt"}]}',
        b'{"attributes":[{"key":"model","value":{"boolValue":"the-users-prompt"}}]}',
        b'{"attributes":[{"key":"model","value":{"doubleValue":1e999}}]}',
        b'{"eventName":5}',
        b'{"eventName":"\xff"}',
        b'{"eventName":"\xed\xa0\x80"}',
        b"7",
        b"null",
    ],
)
def test_a_malformed_record_in_json_costs_itself_alone_and_is_not_quoted(bad: bytes) -> None:
    decoded = with_neighbours(bad, "json")
    assert names(decoded) == ["before", "after"]
    assert decoded.rejected == 1
    assert len(decoded.reasons) == 1
    assert SECRET not in decoded.reasons[0]


@pytest.mark.parametrize(
    "bad",
    [
        field(12, b"\xff"),  # a name that is not UTF-8
        field(6, field(1, b"\xed\xa0\x80")),  # a key that is half a surrogate pair
        field(6, b"\x0a"),  # a truncated attribute
        b"\x09\x01",  # a truncated time
        b"\xff",
    ],
)
def test_a_malformed_record_in_protobuf_costs_itself_alone(bad: bytes) -> None:
    decoded = with_neighbours(bad, "protobuf")
    assert names(decoded) == ["before", "after"]
    assert decoded.rejected == 1
    assert decoded.reasons == ["a LogRecord is not readable: too large, too deep, or not UTF-8"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_values_nested_within_reason_are_left_out_and_the_record_kept(encoding: Encoding) -> None:
    decoded = with_neighbours(nested(20, encoding), encoding)
    assert names(decoded) == ["before", "deep", "after"]
    assert [item.attributes for item in decoded.items] == [{}, {}, {}]


def test_values_nested_too_deeply_cost_their_record_in_protobuf() -> None:
    decoded = with_neighbours(nested(5_000, "protobuf"), "protobuf")
    assert (names(decoded), decoded.rejected) == (["before", "after"], 1)


@pytest.mark.parametrize("levels", [30, 300, 5_000, 100_000])
def test_values_nested_too_deeply_cost_only_themselves_in_json(levels: int) -> None:
    decoded = with_neighbours(nested(levels, "json"), "json")
    assert (names(decoded), decoded.rejected) == (["before", "deep", "after"], 0)
    assert decoded.items[1].attributes == {}


@pytest.mark.parametrize(
    "bad",
    [
        b'{"resourceLogs":' + b"[" * 50_000,
        b'{"a":' * 50_000 + b"]" * 50_000,
        b'{"a":' + b"[" * 2_000 + b'"' + rb"\"" * 50_000,
        b'{"a":' + b"[" * 2_000 + b'"[\\',
    ],
)
def test_nesting_without_an_end_is_no_json(bad: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"not an OTLP request|nested too deeply"):
        decode_logs(bad, "json", KEPT)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('[]{}"\\,é')),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=2), inside, max_size=3),
)


@given(_values, st.integers(0, 99), st.integers(101, 300))
def test_only_what_is_too_deep_is_taken_out(value: object, levels: int, too_many: int) -> None:
    text = json.dumps([value, "]["])
    assert json.loads(shallow(f"[{'[' * levels}1{']' * levels},{text}]".encode()))[1:] == [json.loads(text)]
    deep = f"{'[' * too_many}{']' * too_many}"
    assert json.loads(shallow(f"[{deep},{text},{deep}]".encode()))[1] == json.loads(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ten_thousand_attributes_hide_none_that_is_named(encoding: Encoding) -> None:
    junk = [{"key": f"junk.{i}", "value": {"stringValue": SECRET}} for i in range(10_000)]
    named = {"key": "model", "value": {"stringValue": "m"}}
    body = logs_json(msgspec.json.encode({"eventName": "e", "attributes": [*junk, named, *junk]}))
    sent = body if encoding == "json" else parsed("logs", body).SerializeToString()
    [only] = decode_logs(sent, encoding, KEPT).items
    assert only.attributes == {"model": "m"}


def sum_point(encoding: Encoding, temporality: int = 1, **fields: Any) -> Decoded[Point]:
    points = [{"timeUnixNano": "5", "asInt": "1"}, fields, {"timeUnixNano": "6", "asInt": "2"}]
    sums = [
        {"name": "good", "sum": {"isMonotonic": True, "aggregationTemporality": 1, "dataPoints": points[:1]}},
        {
            "name": "m",
            "sum": {"isMonotonic": True, "aggregationTemporality": temporality, "dataPoints": [fields]},
        },
        {"name": "good", "sum": {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": points[2:]}},
    ]
    body = msgspec.json.encode({"resourceMetrics": [{"scopeMetrics": [{"metrics": sums}]}]})
    sent = body if encoding == "json" else parsed("metrics", body).SerializeToString()
    decoded = decode_metrics(sent, encoding, KEPT)
    assert [p.value for p in decoded.items if p.metric == "good"] == [1, 2]
    return decoded


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"asInt": "-1", "timeUnixNano": "5"}, "a point of a monotonic sum is negative"),
        ({"asDouble": -0.5, "timeUnixNano": "5"}, "a point of a monotonic sum is negative"),
        ({"asDouble": "NaN", "timeUnixNano": "5"}, "a point's value is not a finite number"),
        ({"asDouble": "Infinity", "timeUnixNano": "5"}, "a point's value is not a finite number"),
        ({"asInt": "1"}, "a point has no timeUnixNano"),
        ({"timeUnixNano": "5"}, "a point has no value"),
        (
            {"asInt": "1", "timeUnixNano": "5", "temporality": 0},
            "a sum's aggregationTemporality is neither delta nor cumulative",
        ),
        (
            {"asInt": "1", "timeUnixNano": "5", "temporality": 9},
            "a sum's aggregationTemporality is neither delta nor cumulative",
        ),
    ],
)
def test_a_point_that_cannot_be_counted_is_refused_alone(
    encoding: Encoding, fields: dict[str, Any], reason: str
) -> None:
    decoded = sum_point(encoding, **fields)
    assert (decoded.rejected, decoded.reasons) == (1, [reason])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_point_that_says_that_nothing_was_measured_is_passed_over(encoding: Encoding) -> None:
    decoded = sum_point(encoding, timeUnixNano="5", flags=1)
    assert (len(decoded.items), decoded.rejected) == (2, 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_metrics_that_do_not_add_up_are_passed_over(encoding: Encoding) -> None:
    point = {"timeUnixNano": "5", "asInt": "1"}
    metrics = [
        {"name": "gauge", "gauge": {"dataPoints": [point]}},
        {"name": "up and down", "sum": {"aggregationTemporality": 1, "dataPoints": [point]}},
        {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [{"timeUnixNano": "5"}]}},
        {"name": "e", "exponentialHistogram": {"dataPoints": [{"timeUnixNano": "5"}]}},
        {"name": "s", "summary": {"dataPoints": [{"timeUnixNano": "5"}]}},
        {"name": "none"},
    ]
    body = msgspec.json.encode({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
    sent = body if encoding == "json" else parsed("metrics", body).SerializeToString()
    assert decode_metrics(sent, encoding, KEPT) == Decoded([])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "fields",
    [
        {"spanId": "", "traceId": "ab" * 16, "endTimeUnixNano": "5"},
        {"spanId": "ab" * 8, "traceId": "ab" * 15, "endTimeUnixNano": "5"},
        {"spanId": "ab" * 8, "traceId": "ab" * 16},
    ],
)
def test_a_span_without_identity_or_end_is_refused_alone(encoding: Encoding, fields: dict[str, Any]) -> None:
    whole = {"name": "claude_code.a", "spanId": "ab" * 8, "traceId": "ab" * 16, "endTimeUnixNano": "5"}
    spans = [whole, {"name": "claude_code.b"} | fields, whole]
    body = msgspec.json.encode({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    sent = body if encoding == "json" else parsed("traces", body).SerializeToString()
    decoded = DECODE["traces"](sent, encoding, KEPT)
    assert (len(decoded.items), decoded.rejected, len(decoded.reasons)) == (2, 1, 1)


def test_reasons_are_few_however_much_is_refused() -> None:
    bad = [b'{"timeUnixNano":%d.5}' % i for i in range(50)]
    bad += [msgspec.json.encode({"attributes": [None] * i + [i]}) for i in range(50)]
    decoded = decode_logs(logs_json(*bad), "json", KEPT)
    assert decoded.rejected == 100
    assert len(decoded.reasons) <= 10
    assert max(map(len, decoded.reasons)) <= 200


def test_more_parts_than_a_real_request_has_are_refused() -> None:
    for name, encoding, body in too_large(SMALL):
        with pytest.raises(TooLarge) as refused:
            decode_logs(body, encoding, KEPT)
        assert (refused.value.status, refused.value.stable_code) == (413, "too_many_records"), name


@pytest.mark.skipif(not STATUS.exists(), reason="memory is read as Linux tells it")
def test_memory_stays_flat_and_time_short_whatever_ten_megabytes_hold() -> None:
    # In a process of its own: what protobuf takes is seen from outside only.
    said = subprocess.run(
        [sys.executable, otlp_hostile.__file__], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    grown_mb, slowest_s = map(float, said)
    assert grown_mb < 150  # of which the bodies are up to 40 while they are made
    assert slowest_s < 10


def test_one_record_of_ten_megabytes_is_refused_alone_in_protobuf() -> None:
    huge = KeyValue(key="prompt", value=AnyValue(string_value="a" * 10 * 2**20))
    bad = LogRecord(event_name="huge", attributes=[huge]).SerializeToString()
    decoded = with_neighbours(bad, "protobuf")
    assert (names(decoded), decoded.rejected) == (["before", "after"], 1)


def test_a_large_request_is_read_like_a_small_one() -> None:
    records = [
        LogRecord(event_name=f"e{i}", attributes=[KeyValue(key="a", value=AnyValue(string_value="x" * 900))])
        for i in range(2_500)
    ]
    body = logs_protobuf(*(record.SerializeToString() for record in records))
    assert len(body) > 2**21
    assert ExportLogsServiceRequest.FromString(body).resource_logs
    assert names(decode_logs(body, "protobuf", KEPT)) == [f"e{i}" for i in range(2_500)]
