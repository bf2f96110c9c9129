"""JSON is accepted as it really comes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_ingest.otlp.decoding import decode_logs, decode_metrics, decode_traces
from tokentide_ingest.otlp.telemetry import LogRecord, Point

KEPT = frozenset({"event.name", "event.timestamp", "model", "input_tokens", "cost_usd", "service.name", "ok"})


def logs(*records: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})


def record(**fields: Any) -> LogRecord:
    decoded = decode_logs(logs({"eventName": "e"} | fields), "json", KEPT)
    assert decoded.reasons == []
    [only] = decoded.items
    return only


def value(said: Any) -> Any:
    return record(attributes=[{"key": "model", "value": said}]).attributes.get("model")


def point(fields: dict[str, Any], **of_sum: Any) -> Point:
    total = {"isMonotonic": True, "aggregationTemporality": 1} | of_sum
    total["dataPoints"] = [{"timeUnixNano": "5", "asInt": "1"} | fields]
    metrics = [{"name": "m", "unit": "1", "sum": total}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"scope": {"name": "s"}, "metrics": metrics}]}]}
    decoded = decode_metrics(msgspec.json.encode(body), "json", KEPT)
    assert decoded.reasons == []
    [only] = decoded.items
    return only


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"intValue": 12}, 12),
        ({"intValue": "12"}, 12),
        ({"intValue": "-9223372036854775808"}, -(2**63)),
        ({"intValue": 12.0}, 12),
        ({"intValue": 0}, 0),
        ({"doubleValue": 0.5}, 0.5),
        ({"doubleValue": "0.5"}, 0.5),
        ({"doubleValue": 3}, 3.0),
        ({"boolValue": False}, False),
        ({"stringValue": "12"}, "12"),
        ({"stringValue": ""}, ""),
        ({"stringValue": None, "intValue": 4}, 4),
    ],
)
def test_scalar_values_are_read_however_they_are_written(said: Any, meant: Any) -> None:
    assert repr(value(said)) == repr(meant)


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"stringValue": None},
        {"stringValue": "a" * 1025},
        {"intValue": "9223372036854775808"},
        {"intValue": 10**30},
        {"intValue": "1_000"},
        {"intValue": "٣"},
        {"intValue": "many"},
        {"intValue": 0.5},
        {"doubleValue": "NaN"},
        {"doubleValue": "-Infinity"},
        {"doubleValue": "x"},
        {"bytesValue": "AAAA"},
        {"arrayValue": {"values": [{"stringValue": "a"}]}},
        {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "b"}}]}},
    ],
)
def test_values_that_hold_content_or_nothing_countable_are_left_out(said: Any) -> None:
    assert value(said) is None


@pytest.mark.parametrize(
    ("fields", "nanos"),
    [
        ({"timeUnixNano": "1795309811589000000"}, 1795309811589000000),
        ({"timeUnixNano": 1795309811589000000}, 1795309811589000000),
        ({"timeUnixNano": "0", "observedTimeUnixNano": "7"}, 7),
        ({"timeUnixNano": 0, "observedTimeUnixNano": 7}, 7),
        ({"timeUnixNano": None, "observedTimeUnixNano": "7"}, 7),
        ({"timeUnixNano": "", "observedTimeUnixNano": "7"}, 7),
        ({"observedTimeUnixNano": "7"}, 7),
        ({"timeUnixNano": "3057613811000000000"}, 3057613811000000000),  # 40 years ahead: others judge that
        ({}, 0),
    ],
)
def test_the_time_is_the_records_own_else_the_observed_one(fields: dict[str, Any], nanos: int) -> None:
    assert record(**fields).time_ns == nanos


@pytest.mark.parametrize(
    ("stated", "nanos"),
    [
        ("2026-11-22T01:10:11.589Z", 1795309811589000000),
        ("2026-11-22T01:10:11.589123+00:00", 1795309811589123000),
        ("2026-11-22T02:10:11+01:00", 1795309811000000000),
        ("2026-11-22T01:10:11", 1795309811000000000),
        ("1969-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+23:00", 0),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_without_both_times_the_events_own_timestamp_is_taken(stated: str, nanos: int) -> None:
    said = [{"key": "event.timestamp", "value": {"stringValue": stated}}]
    assert record(timeUnixNano="0", attributes=said).time_ns == nanos


def test_a_timestamp_that_is_no_text_is_no_time() -> None:
    assert record(attributes=[{"key": "event.timestamp", "value": {"intValue": 5}}]).time_ns == 0


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"eventName": "from.record"}, "from.record"),
        (
            {
                "eventName": "event src/lib.rs:3",
                "attributes": [{"key": "event.name", "value": {"stringValue": "x"}}],
            },
            "x",
        ),
        ({"eventName": None, "body": {"stringValue": "claude_code.api_request"}}, "claude_code.api_request"),
        ({"eventName": "", "body": {"stringValue": "please fix my code"}}, ""),
        ({"eventName": "a" * 257}, ""),
        ({"eventName": None, "body": {"kvlistValue": {"values": []}}}, ""),
    ],
)
def test_an_event_is_named_by_its_attribute_its_record_or_a_body_that_is_a_name(
    fields: dict[str, Any], name: str
) -> None:
    said = {"attributes": [{"key": "model", "value": {"stringValue": "m"}}]}
    decoded = decode_logs(logs(said | fields), "json", KEPT)
    assert [item.name for item in decoded.items] == [name]


def test_of_a_key_that_comes_twice_the_last_value_counts() -> None:
    said = [{"key": "model", "value": {"stringValue": text}} for text in ("a", "b")]
    assert record(attributes=said).attributes == {"model": "b"}


@pytest.mark.parametrize("said", [None, [], [{"value": {"intValue": 1}}], [{"key": "model"}]])
def test_a_record_without_attributes_is_a_record(said: Any) -> None:
    assert record(attributes=said).attributes == {}


def test_resource_and_scope_come_with_every_record() -> None:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}]}
    scope = {"scope": {"name": "events", "version": "1"}, "logRecords": [{"eventName": "a"}]}
    body = {"resourceLogs": [{"resource": resource, "schemaUrl": "u", "scopeLogs": [scope, scope]}]}
    decoded = decode_logs(msgspec.json.encode(body), "json", KEPT)
    assert [(r.resource, r.scope) for r in decoded.items] == [({"service.name": "claude-code"}, "events")] * 2


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"resourceLogs":null}',
        '{"resourceLogs":[]}',
        '{"resourceLogs":[{}]}',
        '{"resourceLogs":[{"resource":null,"scopeLogs":null}]}',
        '{"resourceLogs":[{"scopeLogs":[{"scope":null,"logRecords":null}]}]}',
        '{"somethingElse":[1,{"a":[]}]}',
        ' \n{"resourceLogs":[]} ',
    ],
)
def test_an_empty_request_is_a_request(body: str) -> None:
    assert decode_logs(body.encode(), "json", KEPT).items == []
    assert decode_metrics(body.replace("Logs", "Metrics").encode(), "json", KEPT).items == []
    assert decode_traces(body.replace("Logs", "Spans").encode(), "json", KEPT).items == []


def test_keys_with_underscores_of_old_clients_are_read() -> None:
    body = (
        b'{"resource_logs":[{"scope_logs":[{"log_records":[{"time_unix_nano":"7","body":{"string_value":"e"},'
        b'"attributes":[{"key":"input_tokens","value":{"int_value":"3"}},'
        b'{"key":"model","value":{"string_value":"say \\"log_records\\": 1"}}]}]}]}]}'
    )
    [only] = decode_logs(body, "json", KEPT).items
    assert (only.name, only.time_ns) == ("e", 7)
    assert only.attributes == {"input_tokens": 3, "model": 'say "log_records": 1'}


@given(
    st.text(st.sampled_from(["\ud83d", "\ude00", "\udfff", "\\", "u", "d", "8", '"', "😀", "a"]), max_size=10)
)
def test_half_a_character_where_javascript_has_cut_a_text_costs_nothing_but_itself(cut: str) -> None:
    # As JSON.stringify writes it, in a prompt that is not kept and in a word that is.
    prompt, model = ({"key": key, "value": {"stringValue": cut}} for key in ("prompt", "model"))
    records = [{"eventName": "before"}, {"eventName": "cut", "attributes": [prompt, model]}]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    decoded = decode_logs(body, "json", KEPT)
    assert (decoded.rejected, [item.name for item in decoded.items]) == (0, ["before", "cut"])
    assert decoded.items[1].attributes == {
        "model": cut.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    }


@pytest.mark.parametrize("temporality", [2, "2", "AGGREGATION_TEMPORALITY_CUMULATIVE"])
def test_temporality_is_a_number_or_a_name(temporality: Any) -> None:
    assert point({}, aggregationTemporality=temporality).temporality == "cumulative"


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"asInt": "7"}, 7),
        ({"asInt": 7}, 7),
        ({"asInt": 0}, 0),
        ({"asInt": None, "asDouble": 0.25}, 0.25),
        ({"asInt": None, "asDouble": "0.25"}, 0.25),
        ({"asInt": None, "asDouble": 0}, 0.0),
    ],
)
def test_a_points_value_is_an_integer_or_a_float(fields: dict[str, Any], meant: float) -> None:
    assert repr(point(fields).value) == repr(meant)


def test_a_spans_ids_are_hexadecimal_in_either_case() -> None:
    span = {"name": "claude_code.llm_request", "spanId": "00AB" * 4, "traceId": "12cd" * 8}
    span |= {"startTimeUnixNano": "1", "endTimeUnixNano": 2, "status": {"code": "STATUS_CODE_ERROR"}}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span, {"name": "other", "spanId": "AAAA"}]}]}]}
    [only] = decode_traces(msgspec.json.encode(body), "json", KEPT).items
    assert (only.span_id, only.trace_id) == ("00ab" * 4, "12cd" * 8)
    assert (only.start_ns, only.end_ns, only.failed) == (1, 2, True)
