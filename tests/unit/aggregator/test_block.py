"""What a batch adds and takes back, and that a row is its state."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import reduce
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.observations import NOON, observations
from tokentide_aggregator.block import FoldedCall, build
from tokentide_aggregator.call_ledger import fold_calls
from tokentide_aggregator.counted_call import CountedCall
from tokentide_aggregator.fold import Waiting
from tokentide_aggregator.ledger import Block
from tokentide_aggregator.rows import decode_row, encode_row, row_of_state, state_of_row, taken_back
from tokentide_common.events import MAX_COUNT, UsageEvent, encode_event
from tokentide_common.identity import call_hash
from tokentide_common.merge import add, canonical, merged


def price(event: UsageEvent) -> int | None:
    return None if event.model == "c" else event.output_tokens * 7 + event.cache_write_1h_tokens * 3


def folded(events: list[UsageEvent], waiting: dict[int, Waiting] | None = None) -> dict[bytes, FoldedCall]:
    key = (events[0].org_id, events[0].call_id)
    return {call_hash(*key): FoldedCall(key, 0, events, waiting or {})}


def in_ledger(row: bytes) -> CountedCall:
    return CountedCall(decode_row(row))


def built(events: list[UsageEvent], known: Block | None = None) -> Block:
    counted = {change.key: in_ledger(change.row) for change in known.changes} if known else {}
    return build(folded(events), counted, price, "v1")


@given(st.lists(observations(), min_size=1, max_size=5))
def test_a_row_read_back_is_the_state_it_was_made_of(events):
    state = dict(reduce(add, events, {}))
    record, token_source = merged(state)
    row = row_of_state(
        state, record, token_source=token_source, cost_nano=price(record), price_version="v1", version=3
    )
    assert state_of_row(decode_row(encode_row(row))) == state


@given(observations())
def test_the_short_way_of_a_new_call_gives_the_row_of_the_long_way(event):
    (change,) = built([event]).changes
    state = add({}, event)
    record, token_source = merged(state)
    row = row_of_state(
        state, record, token_source=token_source, cost_nano=price(record), price_version="v1", version=1
    )
    short = decode_row(change.row)
    row.digest = short.digest  # of bytes, which the long way does not make
    assert msgspec.to_builtins(short) == msgspec.to_builtins(row)


@given(st.lists(observations(), min_size=1, max_size=4), st.lists(observations(), min_size=1, max_size=4))
def test_a_call_met_in_two_batches_ends_as_if_met_in_one(first, second):
    one = built(first + second)
    before = built(first)
    after = built(second, before)
    final = after.changes[0] if after.changes else before.changes[0]
    told, expected = decode_row(final.row), decode_row(one.changes[0].row)
    told.version, told.digest = expected.version, expected.digest  # the digest is one of the version, too
    assert told == expected
    if after.changes:
        taken = json.loads(after.changes[0].taken_back)
        assert taken.pop("sign") == -1
        assert decode_row(json.dumps(taken).encode()) == decode_row(before.changes[0].row)


@given(st.lists(observations(), min_size=1, max_size=4))
def test_repeats_change_nothing(events):
    before = built(events)
    assert built(events + events, before).changes == []


@given(st.lists(observations(), min_size=1, max_size=4))
def test_a_call_to_be_priced_anew_gets_the_price_of_today_and_nothing_else(events):
    before = built(events)
    counted = {change.key: in_ledger(change.row) for change in before.changes}
    asked = folded(events)
    for group in asked.values():
        group.events, group.priced_anew = [], True
    (change,) = build(asked, counted, lambda _: 77, "v2").changes
    new, old = decode_row(change.row), decode_row(before.changes[0].row)
    assert (new.cost_nano, new.unpriced, new.price_version, new.version) == (77, False, "v2", old.version + 1)
    for name in ("cost_nano", "unpriced", "price_version", "version", "digest"):
        setattr(new, name, getattr(old, name))
    assert new == old
    assert change.taken_back == taken_back(old)
    assert build(asked, {}, price, "v2").changes == [], "what was never counted is not counted by that"


def test_the_row_taken_back_is_the_same_bytes_from_memory_and_from_the_table():
    event = canonical(
        UsageEvent(call_id="req_1", source="cli", org_id="o", occurred_at=NOON, tags={"b": "1", "a": "2"})
    )
    (change,) = built([event]).changes
    assert taken_back(decode_row(change.row)) == taken_back(decode_row(encode_row(decode_row(change.row))))


def test_each_waiting_event_gets_the_verdict_of_its_own_effect():
    def event(**fields: object) -> UsageEvent:
        return canonical(
            UsageEvent(**{"call_id": "req_1", "source": "cli", "org_id": "o", "occurred_at": NOON, **fields})
        )

    events = [
        event(output_tokens=5),
        event(output_tokens=5),
        event(output_tokens=9),
        event(source="otlp", output_tokens=9),
    ]
    waiting = {n: Waiting(b"me", "b", n) for n in range(4)}
    block = build(folded(events, waiting), {}, price, "v1")
    assert [v.verdict for v in block.verdicts] == ["counted", "duplicate", "upgraded", "upgraded"]
    assert len(block.changes) == 1


def test_an_upgrade_touches_the_day_it_leaves_and_the_day_it_joins():
    late = canonical(UsageEvent(call_id="req_1", source="cli", org_id="o", occurred_at=NOON))
    early = msgspec.structs.replace(late, occurred_at=NOON.replace(day=20), source="otlp")
    block = built([early], built([late]))
    assert block.days == {("o", NOON.toordinal()), ("o", NOON.toordinal() - 2)}


def test_a_call_without_a_known_price_is_unpriced_and_costs_nothing():
    event = canonical(
        UsageEvent(call_id="req_1", source="cli", org_id="o", occurred_at=NOON, model="c", output_tokens=5)
    )
    row = decode_row(built([event]).changes[0].row)
    assert (row.unpriced, row.cost_nano) == (True, 0)


class Consumed(NamedTuple):
    offset: int
    value: bytes
    timestamp: int = 1
    key: bytes = b"k"
    headers: tuple[tuple[str, bytes], ...] = ()


most = st.sampled_from([0, 1, MAX_COUNT])
extremes = st.builds(
    UsageEvent,
    call_id=st.just("req_1"),
    org_id=st.just("o"),
    source=st.sampled_from(["cli", "api", "otlp", "proxy"]),
    occurred_at=st.sampled_from([NOON, datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)]),
    session_started_at=st.sampled_from([None, datetime.min.replace(tzinfo=UTC), NOON]),
    input_tokens=most,
    cache_write_tokens=most,
    cache_write_5m_tokens=most,
    cache_write_1h_tokens=most,
    output_tokens=most,
    reported_cost_usd=st.sampled_from(
        ["", "0", "000000001.50", "999999999." + "9" * 18, "0." + "0" * 17 + "1"]
    ),
    tags=st.sampled_from([{}, {"a": ""}, {"\x00": "\U0001f600"}, {f"{n:064}": "\u2028" for n in range(32)}]),
)


@given(st.lists(extremes, min_size=1, max_size=6))
def test_whatever_extremes_an_event_holds_it_is_a_dead_letter_or_can_be_written_and_read_for_ever(events):
    known = {}
    for offset, event in enumerate(events):
        for _ in range(2):
            block = build(fold_calls([Consumed(offset, encode_event(event))]).groups, known, price, "v1")
            known |= {change.key: in_ledger(change.row) for change in block.changes}
        assert block.changes == []


def test_what_was_said_is_written_the_same_whether_it_was_read_back_from_the_table_or_not():
    first = canonical(UsageEvent(call_id="req_1", source="cli", org_id="o", occurred_at=NOON))
    second = msgspec.structs.replace(first, source="otlp")
    (change,) = built([first]).changes
    # The table names every column, the row in memory only what is not the default.
    from_table = in_ledger(change.row[:-1] + b',"status":"ok","observations":"","agent":"","unpriced":false}')
    (upgraded,) = build(folded([second]), {change.key: from_table}, price, "v1").changes
    (at_once,) = built([first, second]).changes
    assert decode_row(upgraded.row).observations == decode_row(at_once.row).observations
