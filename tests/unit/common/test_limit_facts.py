"""The wire format of limits."""

from datetime import UTC, datetime

import msgspec
import pytest

from tokentide_common.errors import InvalidEvent
from tokentide_common.limit_facts import LimitFact, decode_limit_fact, encode_limit_fact, key_of

FACT = LimitFact(
    provider="anthropic",
    kind="unified_5h",
    observed_at=datetime(2026, 11, 22, 11, tzinfo=UTC),
    org_id="org_1",
    account_id="acc",
    key_id="key_1",
    utilization="0.55",
    remaining=0,
)


def test_a_fact_comes_back_as_it_was_with_what_is_unknown_left_out():
    raw = encode_limit_fact(FACT)
    assert decode_limit_fact(raw) == FACT
    assert msgspec.json.decode(raw) == {
        "provider": "anthropic",
        "kind": "unified_5h",
        "observed_at": "2026-11-22T11:00:00Z",
        "org_id": "org_1",
        "account_id": "acc",
        "key_id": "key_1",
        "remaining": 0,
        "utilization": "0.55",
    }


def test_a_field_of_a_later_version_is_ignored():
    assert decode_limit_fact(encode_limit_fact(FACT)[:-1] + b',"window_s":300}') == FACT


def test_records_of_one_account_have_one_key_whatever_key_of_ours_saw_them():
    other = msgspec.structs.replace(FACT, key_id="key_2", kind="requests")
    assert key_of(FACT) == key_of(other) == b"org_1:anthropic:acc"
    assert key_of(msgspec.structs.replace(FACT, account_id="")) == b"org_1:anthropic:key_1"


@pytest.mark.parametrize(
    "change",
    [
        b'"kind":"Five hours"',
        b'"utilization":"-0.1"',
        b'"remaining":-1',
        b'"provider":7',
        b'"observed_at":"now"',
    ],
)
def test_what_is_no_fact_is_refused_without_quoting_it(change):
    with pytest.raises(InvalidEvent) as refused:
        decode_limit_fact(encode_limit_fact(FACT)[:-1] + b"," + change + b"}")
    assert refused.value.stable_code == "unreadable_record"
    assert "hours" not in str(refused.value)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_garbage_is_refused(raw):
    with pytest.raises(InvalidEvent):
        decode_limit_fact(raw)
