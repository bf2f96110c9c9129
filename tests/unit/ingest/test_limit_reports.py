"""What a client reports of limits: read strictly, stamped with what its key stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import InvalidRequest
from tokentide_common.limit_facts import LimitFact, decode_limit_fact, encode_limit_fact
from tokentide_ingest.limit_reports import facts_of, read_report

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
KEY = KeyRecord(key_id="key_1", org_id="org_1", kind="m")
RESET = "2026-11-22T14:00:00Z"


def body(**fields: object) -> bytes:
    said = {"kind": "unified_5h", "utilization": "0.42", "resets_at": RESET, **fields}
    return msgspec.json.encode({"machine": {"id": "m", "name": "n"}, "limits": [said]})


def test_a_report_becomes_a_fact_of_its_key():
    (fact,) = facts_of(read_report(body()), KEY, NOW)
    assert fact == LimitFact(
        provider="anthropic",
        kind="unified_5h",
        observed_at=NOW,
        source="cli",
        org_id="org_1",
        key_id="key_1",
        utilization="0.42",
        resets_at=datetime(2026, 11, 22, 14, tzinfo=UTC),
    )
    assert decode_limit_fact(encode_limit_fact(fact)) == fact


def test_a_clock_that_is_ahead_silences_nobody():
    ahead = (NOW + timedelta(days=3)).isoformat()
    assert facts_of(read_report(body(observed_at=ahead)), KEY, NOW)[0].observed_at == NOW
    before = NOW - timedelta(minutes=1)
    assert facts_of(read_report(body(observed_at=before.isoformat())), KEY, NOW)[0].observed_at == before


@pytest.mark.parametrize("when", ["2019-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_window_that_cannot_be_is_refused(when):
    with pytest.raises(InvalidRequest) as refused:
        facts_of(read_report(body(resets_at=when)), KEY, NOW)
    assert refused.value.stable_code == "timestamp_out_of_range"
    assert list(refused.value.fields) == ["resets_at"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 5000,
        body(utilization="-1"),
        body(utilization=0.5),
        body(kind="Five hours"),
        body(kind="requests", limit=1),
        body(resets_at="soon"),
        body(resets_at="2026-11-22T14:00:00"),
        body(org_id="org_2"),
        body(account_id="of-somebody-else"),
        body(transcript_path="/home/ann/secret-plan"),
        msgspec.json.encode({"limits": [{"kind": "unified_5h"}] * 33}),
    ],
)
def test_what_is_no_report_is_refused_without_quoting_it(raw):
    with pytest.raises(InvalidRequest) as refused:
        read_report(raw)
    assert refused.value.stable_code == "malformed_body"
    assert not {"secret-plan", "soon", "Five hours"} & set(refused.value.detail.split())


def test_readers_understand_sources_that_they_do_not_know_yet():
    raw = encode_limit_fact(facts_of(read_report(body()), KEY, NOW)[0])
    assert decode_limit_fact(raw.replace(b'"cli"', b'"tomorrow"')).source == "tomorrow"
