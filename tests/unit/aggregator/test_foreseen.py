"""A row that is told by its price and digest is the one that is there, byte for byte, or it is none."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from infra.observations import NOON, observations
from tokentide_aggregator.block import FoldedCall, build
from tokentide_aggregator.call_ledger import CallLedger
from tokentide_aggregator.counted_call import CountedCall, Indexed
from tokentide_aggregator.foreseen import Priced, foreseen_event, foreseen_row
from tokentide_aggregator.rows import LedgerRow, encode_row
from tokentide_common.events import UsageEvent
from tokentide_common.identity import call_hash
from tokentide_common.merge import canonical

KEY = ("o", "req_1")


def price(event: UsageEvent) -> int | None:
    return event.output_tokens * 15 if event.output_tokens else None


def counted(*batches: list[UsageEvent]) -> CountedCall:
    """Return what is known of a call after batches, its row among it."""
    ledger = CallLedger(price, "v1")
    known: dict[bytes, CountedCall] = {}
    for events in batches:
        asked = FoldedCall(KEY, 0, events, {})
        block = build({call_hash(*KEY): asked}, known, price, "v1")
        known |= {change.key: ledger.recall(ledger.keep(change), asked) for change in block.changes}
    return known[call_hash(*KEY)]


def foreseen(call: CountedCall, *said: UsageEvent, **other: object) -> LedgerRow | None:
    """Return the row that events foresee, where the ledger tells of it what it does, or `other`."""
    assert call.row is not None
    before = foreseen_event(said, Indexed(call.row.version, 0, call.observed_ms, call.digests))
    told = {name: getattr(call.row, name) for name in Priced.__struct_fields__}
    return before and foreseen_row(before, Priced(**told | other))


def event(**fields: object) -> UsageEvent:
    return canonical(
        UsageEvent(**{"call_id": "req_1", "org_id": "o", "source": "cli", "occurred_at": NOON, **fields})
    )


several = st.lists(st.lists(observations(links=("a",)), min_size=1, max_size=2), min_size=1, max_size=3)


@given(several, st.integers(0, 9))
def test_a_row_that_is_foreseen_is_the_row_that_is_stored(batches, more):
    call = counted(*batches)
    for said in (e for batch in batches for e in batch):
        row = foreseen(call, replace(said, output_tokens=said.output_tokens + more))
        assert row is None or encode_row(row) == encode_row(call.row)


@given(observations(), st.integers(1, 9))
def test_the_row_of_a_call_that_was_said_once_is_foreseen_when_its_output_grows(said, more):
    call = counted([said])
    row = foreseen(call, replace(said, output_tokens=said.output_tokens + more, observed_at=NOON))
    plain = said.cache_write_tokens == said.cache_write_5m_tokens + said.cache_write_1h_tokens
    if plain and said.source != "link" and said.reasoning_tokens <= said.output_tokens:
        assert row is not None
        assert encode_row(row) == encode_row(call.row)


def test_it_is_foreseen_again_after_it_grew_when_no_sight_of_it_was_earlier():
    call = counted([event(output_tokens=5)], [event(output_tokens=7)])
    assert foreseen(call, event(output_tokens=9)) == call.row


@pytest.mark.parametrize(
    "other",
    [{"input_tokens": 3}, {"source": "otlp"}, {"session_id": "another"}, {"same_as": "req_2"}],
    ids=lambda other: next(iter(other)),
)
def test_a_row_is_read_for_an_event_that_differs_in_more_than_output(other):
    call = counted([event(output_tokens=5)])
    assert foreseen(call, event(output_tokens=9, **other)) is None


def test_a_row_is_read_where_more_was_said_or_seen_than_one_observation():
    said = event(output_tokens=5)
    for call in (
        counted([said], [event(output_tokens=5, source="otlp")]),
        counted([said], [event(output_tokens=7, observed_at=NOON - timedelta(seconds=1))]),
        counted([said, event(same_as="req_0")]),
    ):
        assert foreseen(call, event(output_tokens=9)) is None


@pytest.mark.parametrize(
    "other",
    [{"version": 2}, {"cost_nano": 74}, {"unpriced": True}, {"price_version": "v2"}, {"digest": 0}],
    ids=lambda other: next(iter(other)),
)
def test_a_row_is_read_where_what_is_told_of_it_does_not_give_its_digest(other):
    call = counted([event(output_tokens=5)])
    assert foreseen(call, event(output_tokens=9)) == call.row
    assert foreseen(call, event(output_tokens=9), **other) is None
