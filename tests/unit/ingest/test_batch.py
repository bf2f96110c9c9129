import gc
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import InvalidRequest, TooLarge
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_ingest.batch import MAX_EVENTS, Batch, Machine, read_batch

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = KeyRecord(
    key_id="key_1", org_id="org_1", kind="m", user_id="u-key", user_email="key@example.com", team="t-key"
)
CANARY = "Canary-7f3a secret prompt"


def event(**fields: Any) -> dict[str, Any]:
    return {
        "call_id": "req_1",
        "source": "cli",
        "occurred_at": "2026-11-22T11:00:00Z",
        "model": "m",
        "output_tokens": 5,
    } | fields


def body(*events: Any, **fields: Any) -> bytes:
    return json.dumps(
        {"machine": {"id": "mac-1", "name": "Laptop"}, "events": list(events)} | fields
    ).encode()


def judged(raw: bytes, key: KeyRecord = KEY) -> Batch:
    return read_batch(raw, key, NOW)


def stamped(**fields: Any) -> UsageEvent:
    [record] = judged(body(event(**fields))).records
    return decode_wire_event(record.value or b"")


def test_a_record_is_keyed_by_call_id() -> None:
    [record] = judged(body(event(call_id="req_é"))).records
    assert record.key == "req_é".encode()
    assert list(record.headers) == []


def test_scope_comes_from_the_key_whatever_the_body_says() -> None:
    got = stamped(org_id="org_other", key_id="key_other")
    assert (got.org_id, got.key_id) == ("org_1", "key_1")


def test_key_defaults_fill_only_what_the_event_leaves_open() -> None:
    got = stamped(user_id="u-event", team="")
    assert (got.user_id, got.user_email, got.team) == ("u-event", "key@example.com", "t-key")


def test_the_machine_is_the_keys_then_the_events_then_the_bodys() -> None:
    assert stamped().machine_id == "mac-1"
    assert stamped(machine_id="mac-2").machine_id == "mac-2"
    bound = msgspec.structs.replace(KEY, machine_id="mac-3")
    [record] = judged(body(event(machine_id="mac-2")), bound).records
    assert decode_wire_event(record.value or b"").machine_id == "mac-3"


def test_arrival_is_the_time_of_observation_where_the_source_says_none() -> None:
    assert stamped().observed_at == NOW
    assert stamped(observed_at="2026-11-22T11:30:00Z").observed_at == NOW - timedelta(minutes=30)


def test_machine_may_be_left_out() -> None:
    [record] = judged(json.dumps({"events": [event()]}).encode()).records
    assert decode_wire_event(record.value or b"").machine_id == ""


INVALID: dict[str, Any] = {
    "not an object": 7,
    "null": None,
    "a list": [1],
    "no call id": {"source": "cli", "occurred_at": "2026-11-22T11:00:00Z"},
    "empty call id": event(call_id=""),
    "call id too long": event(call_id="x" * 257),
    "unknown field": event(prompt=CANARY),
    "unknown enum": event(status=CANARY),
    "claims to be the proxy": event(source="proxy"),
    "claims to be telemetry": event(source="otlp"),
    "negative tokens": event(input_tokens=-1),
    "2^64 tokens": event(input_tokens=2**64),
    "fractional tokens": event(input_tokens=1.5),
    "tokens as text": event(input_tokens=CANARY),
    "year 1970": event(occurred_at="1970-01-01T00:00:00Z"),
    "year 9999": event(occurred_at="9999-12-31T23:59:59Z"),
    "time without a zone": event(occurred_at="2026-11-22T11:00:00"),
    "time as text": event(occurred_at=CANARY),
    "observed in 1970": event(observed_at="1970-01-01T00:00:00Z"),
    "session of the year 1, east of Greenwich": event(session_started_at="0001-01-01T00:00:00+01:00"),
    "session of the year 9999": event(session_started_at="9999-12-31T23:59:59-01:00"),
    "cache writes beyond a count": event(cache_write_5m_tokens=2**31, cache_write_1h_tokens=2**31),
    "more reasoning than output": event(reasoning_tokens=6),
    "cost with an exponent": event(reported_cost_usd="1e9"),
    "too many tags": event(tags={str(n): "" for n in range(33)}),
    "nested where flat": event(tags={"a": {"b": CANARY}}),
}


@pytest.mark.parametrize("name", INVALID)
def test_one_invalid_event_is_rejected_by_index_and_its_neighbours_go_through(name: str) -> None:
    batch = judged(body(event(call_id="req_a"), INVALID[name], event(call_id="req_b")))
    assert batch.indices == [0, 2]
    assert [record.key for record in batch.records] == [b"req_a", b"req_b"]
    [rejection] = batch.rejected
    assert rejection.index == 1
    assert rejection.code in {"invalid_event", "timestamp_out_of_range", "source_not_allowed"}
    assert rejection.detail


@pytest.mark.parametrize("name", INVALID)
def test_no_rejection_quotes_content(name: str) -> None:
    assert CANARY not in msgspec.json.encode(judged(body(INVALID[name]))).decode()


def test_a_huge_field_name_does_not_come_back() -> None:
    [rejection] = judged(body(event(**{"x" * 10_000: 1}))).rejected
    assert len(rejection.detail) <= 300


def splice(raw_event: bytes) -> bytes:
    return body(event(call_id="req_a"), "HERE", event(call_id="req_b")).replace(b'"HERE"', raw_event)


@pytest.mark.parametrize(
    "raw_event",
    [
        json.dumps(event()).encode().replace(b'"m"', b'"\xff\xfe"'),
        b'{"tags": ' * 400 + b"1" + b"}" * 400,
        b'"' + b"x" * 200_000 + b'"',
        json.dumps(event(tags={"k": "v" * 130_000})).encode(),
    ],
    ids=["invalid UTF-8", "nested 400 deep", "a long string", "a large event"],
)
def test_damage_within_one_event_stays_with_it(raw_event: bytes) -> None:
    batch = judged(splice(raw_event))
    assert batch.indices == [0, 2]
    assert [rejection.index for rejection in batch.rejected] == [1]


def test_the_last_of_duplicate_keys_counts_and_the_stamp_beats_them_all() -> None:
    raw = json.dumps(event()).encode()
    batch = judged(
        splice(raw[:-1] + b', "org_id": "x", "output_tokens": 6, "output_tokens": 7, "org_id": ""}')
    )
    got = decode_wire_event(batch.records[1].value or b"")
    assert (got.org_id, got.output_tokens) == ("org_1", 7)


def test_an_escaped_nul_is_text_like_any_other() -> None:
    assert stamped(model="a\0b").model == "a\0b"


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"events",
    "NaN": splice(b"NaN"),
    "infinity": splice(b"-Infinity"),
    "raw NUL": splice(b'{"call_id": "a\0"}'),
    "NUL after the end": body(event()) + b"\0",
    "truncated": body(event())[:-1],
    "two documents": body(event()) * 2,
    "nested 10000 deep": splice(b"[" * 10_000 + b"]" * 10_000),
    "nested 100000 deep": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "no events": b'{"machine": {"id": "m"}}',
    "events not a list": body(events={"a": 1}),
    "unknown field": body(prompt=CANARY),
    "machine not an object": body(machine=CANARY),
    "unknown machine field": body(machine={"id": "m", "owner": CANARY}),
    "machine id too long": body(machine={"id": CANARY * 20}),
    "UTF-16": body(event()).decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + body(event()),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_unreadable_as_a_whole_is_an_invalid_request(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        judged(UNREADABLE[name])
    assert (caught.value.status, caught.value.stable_code) == (400, "malformed_body")
    assert CANARY not in caught.value.detail
    assert len(caught.value.detail) < 400


def test_a_batch_has_at_most_a_thousand_events() -> None:
    assert len(judged(body(*[event()] * MAX_EVENTS)).records) == MAX_EVENTS
    for extra in (event(), 0, None):
        with pytest.raises(TooLarge) as caught:
            judged(body(*[event()] * MAX_EVENTS, extra))
        assert caught.value.stable_code == "too_many_events"


def test_an_empty_batch_is_a_batch() -> None:
    assert judged(body()) == Batch([], [], [], machine=Machine("mac-1", "Laptop"))


def many(value: bytes) -> bytes:
    return b",".join(b'"%d":%b' % (n, value) for n in range(900_000))


HOSTILE = {
    "numbers": lambda: b'{"events": [' + b"0," * 5_000_000 + b"0]}",
    "objects": lambda: b'{"events": [' + b"{}," * 3_000_000 + b"{}]}",
    "tags": lambda: b'{"events": [{"tags": {' + many(b'""') + b"}}]}",
    "lists": lambda: b'{"events": [[' + b"[]," * 3_000_000 + b"[]]]}",
    "machine": lambda: b'{"machine": {"id": [' + b"[]," * 3_000_000 + b"[]]}}",
    "totals": lambda: b'{"events": [], "totals": [' + b"{}," * 3_000_000 + b"{}]}",
    "models": lambda: b'{"events": [], "totals": [{"models": {' + many(b"{}") + b"}}]}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_ten_hostile_megabytes_take_no_memory_to_refuse(kind: str) -> None:
    hostile = HOSTILE[kind]()
    gc.collect()
    tracemalloc.start()
    try:
        try:
            assert not judged(hostile).records
        except InvalidRequest as refusal:
            del refusal
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


VALID = st.builds(
    event,
    call_id=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
    source=st.sampled_from(["cli", "api"]),
    model=st.text(max_size=20),
    org_id=st.sampled_from(["", "org_other"]),
    user_id=st.sampled_from(["", "u"]),
    output_tokens=st.integers(0, 2**31),
    tags=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3),
    is_sidechain=st.booleans(),
)


@given(st.lists(VALID | st.sampled_from(list(INVALID.values())), max_size=30))
def test_accepted_and_rejected_partition_the_batch_and_nothing_said_is_changed(events: list[Any]) -> None:
    batch = judged(body(*events))
    rejected = [rejection.index for rejection in batch.rejected]
    assert sorted(batch.indices + rejected) == list(range(len(events)))
    assert batch.indices == [n for n, one in enumerate(events) if one not in INVALID.values()]
    for index, record in zip(batch.indices, batch.records, strict=True):
        got = msgspec.to_builtins(decode_wire_event(record.value or b""))
        said = msgspec.to_builtins(msgspec.convert(events[index], UsageEvent))
        stamps = {"org_id": "org_1", "key_id": "key_1", "machine_id": "mac-1", "team": "t-key"} | {
            "user_id": events[index]["user_id"] or "u-key",
            "user_email": "key@example.com",
            "observed_at": "2026-11-22T12:00:00Z",
        }
        assert got == said | stamps


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_can_raise_anything_but_our_errors(raw: bytes) -> None:
    for candidate in (raw, splice(raw)):
        try:
            judged(candidate)
        except InvalidRequest as refusal:
            del refusal
