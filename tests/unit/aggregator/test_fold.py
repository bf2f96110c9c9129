"""Folding records into calls, and the identity of a run of records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_aggregator.call_ledger import fold_calls as fold
from tokentide_aggregator.fold import fingerprint
from tokentide_common.events import UsageEvent, encode_event

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
EAST, WEST = timezone(timedelta(hours=1)), timezone(timedelta(hours=-1))


class Consumed(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 1_795_000_000_000
    key: bytes | None = b"k"
    headers: tuple[tuple[str, bytes], ...] = ()


def said(call_id: str = "req_1", **fields: object) -> bytes:
    return encode_event(
        UsageEvent(**{"call_id": call_id, "source": "cli", "org_id": "o", "occurred_at": NOON, **fields})
    )


def test_events_of_one_call_are_grouped_in_order_of_offset():
    folded = fold(
        [Consumed(0, said(output_tokens=1)), Consumed(1, said("req_2")), Consumed(2, said(output_tokens=2))]
    )
    assert [[e.output_tokens for e in c.events] for c in folded.groups.values()] == [[1, 2], [0]]
    assert folded.dead == []


def test_the_same_call_id_in_two_organisations_is_two_calls():
    assert len(fold([Consumed(0, said()), Consumed(1, said(org_id="other"))]).groups) == 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_record"),
        (b"", "unreadable_record"),
        (b"\xff\xfe\x00", "unreadable_record"),
        (b"[" * 10_000, "unreadable_record"),
        (b'{"call_id":"req_1"}', "unreadable_record"),
        (said(output_tokens=-1), "unreadable_record"),
        (said(output_tokens=2**64), "unreadable_record"),
        (said(org_id=""), "no_organization"),
        (said(occurred_at=datetime(1970, 1, 1, tzinfo=UTC)), "timestamp_out_of_range"),
        (said(occurred_at=datetime(9999, 1, 1, tzinfo=UTC)), "timestamp_out_of_range"),
        (said(session_started_at=datetime(1, 1, 1, tzinfo=EAST)), "timestamp_out_of_range"),
        (said(session_started_at=datetime.max.replace(tzinfo=WEST)), "timestamp_out_of_range"),
        (said(observed_at=datetime(1, 1, 1, tzinfo=EAST)), "timestamp_out_of_range"),
        (said(cache_write_5m_tokens=2**31, cache_write_1h_tokens=1), "unreadable_record"),
        (said()[:-1] + b',"tomorrow":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unreadable_record"),
    ],
)
def test_a_record_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_counted(value, reason):
    folded = fold([Consumed(7, said("req_a")), Consumed(8, value), Consumed(9, said("req_b"))])
    assert [(d.offset, d.reason, len(d.digest)) for d in folded.dead] == [(8, reason, 64)]
    assert [key[1] for c in folded.groups.values() for key in [c.key]] == ["req_a", "req_b"]


def test_fields_of_a_newer_version_are_ignored_on_the_topic():
    value = said()[:-1] + b',"field_of_tomorrow":{"a":[1]}}'
    assert len(fold([Consumed(0, value)]).groups) == 1


@given(st.binary(max_size=200))
def test_no_bytes_on_the_topic_can_break_the_fold(value):
    folded = fold([Consumed(0, value), Consumed(1, said())])
    assert "o" in {c.key[0] for c in folded.groups.values()}


def test_a_waiting_sender_is_remembered_per_event_and_for_dead_letters():
    headers = (("reply-to", b"ingest-1"), ("batch", b"b7"), ("index", b"3"))
    folded = fold([Consumed(0, said(), headers=headers), Consumed(1, b"{", headers=headers)])
    (call,) = folded.groups.values()
    assert call.waiting[0] == (b"ingest-1", "b7", 3)
    assert folded.dead[0].waiting == (b"ingest-1", "b7", 3)


def test_a_topic_made_anew_has_other_fingerprints_for_the_same_offsets_and_content():
    old = [Consumed(0, said(), timestamp=1), Consumed(1, said(), timestamp=2)]
    new = [Consumed(0, said(), timestamp=5), Consumed(1, said(), timestamp=6)]
    assert fingerprint(old) != fingerprint(new)
    assert fingerprint(old) == fingerprint([Consumed(0, said(), timestamp=1), *old[1:]])
    assert fingerprint(old[:1]) != fingerprint(old)


@pytest.mark.parametrize(
    "headers",
    [
        (("reply-to", b"i"), ("batch", None), ("index", b"1")),
        (("reply-to", b"i"), ("batch", b"b"), ("index", None)),
        (("reply-to", b"i"), ("batch", b"b"), ("index", b"9" * 30)),
        (("reply-to", b"i"), ("batch", b"\xff"), ("index", b"1")),
    ],
)
def test_headers_that_make_no_sense_ask_for_no_verdict_and_the_event_is_counted(headers):
    (call,) = fold([Consumed(0, said(), headers=headers)]).groups.values()
    assert call.waiting == {}
