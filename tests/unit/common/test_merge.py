"""The laws of the merge, and what wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.observations import observations
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.merge import add, canonical, join, merged, nano_usd, sources, speaker, usd_text

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def state_of(events: list[UsageEvent]) -> dict[str, UsageEvent]:
    return dict(reduce(add, events, {}))


@given(st.lists(observations(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_observations_gives_the_same_state(events, random):
    shuffled = events + random.choices(events, k=3)
    random.shuffle(shuffled)
    assert state_of(shuffled) == state_of(events)
    assert merged(state_of(shuffled)) == merged(state_of(events))


@given(observations(), observations(), observations(), st.sampled_from(["cli", "proxy"]))
def test_join_is_commutative_associative_and_idempotent(a, b, c, source):
    a, b, c = (msgspec.structs.replace(e, source=source, status="ok") for e in (a, b, c))
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(join(a, b), b) == join(a, b)


@given(st.lists(observations(), min_size=1, max_size=5))
def test_states_joined_in_parts_equal_the_state_of_all(events):
    left, right = state_of(events[:2]), state_of(events[2:])
    assert reduce(add, right.values(), left) == state_of(events)


@given(st.lists(observations(), min_size=1, max_size=5))
def test_a_state_survives_being_written_and_read(events):
    state = state_of(events)
    again = [decode_wire_event(encode_event(e)) for e in state.values()]
    assert {speaker(e): e for e in again} == state


@given(st.lists(observations(), min_size=1, max_size=5))
def test_a_known_value_is_never_beaten_by_an_empty_one(events):
    record, _ = merged(state_of(events))
    for name in ("model", "stop_reason"):
        assert bool(getattr(record, name)) == any(getattr(e, name) for e in events)
    names = ("output_tokens", "input_tokens", "cache_read_tokens", "cache_write_tokens")
    assert any(getattr(record, n) for n in names) == any(getattr(e, n) for e in events for n in names)


def event(source: str, **fields: object) -> UsageEvent:
    return canonical(UsageEvent(call_id="req_1", source=source, occurred_at=NOON, **fields))  # type: ignore[arg-type]


def test_tokens_come_from_the_most_trusted_source_that_knows_them():
    log = event("cli", output_tokens=6, input_tokens=9)
    telemetry = event("otlp", output_tokens=192, input_tokens=9)
    finished = event("proxy", output_tokens=193, input_tokens=9)
    cut = event("proxy", output_tokens=500, input_tokens=9, status="aborted")
    for said, output, who in (
        ([log], 6, "cli"),
        ([log, telemetry], 192, "otlp"),
        ([finished, telemetry, log], 193, "proxy"),
        ([cut, log], 6, "cli"),
        ([cut], 500, "proxy"),
    ):
        record, token_source = merged(state_of(said))
        assert (record.output_tokens, token_source) == (output, who)


def test_the_split_of_cache_writes_survives_a_source_that_knows_only_their_total():
    log = event("cli", cache_write_5m_tokens=310, cache_write_1h_tokens=103, output_tokens=5)
    telemetry = event("otlp", cache_write_tokens=413, output_tokens=130)
    record, who = merged(state_of([telemetry, log]))
    assert (record.cache_write_5m_tokens, record.cache_write_1h_tokens, who) == (310, 103, "otlp")


def test_a_total_above_the_known_split_counts_as_five_minute_writes():
    record, _ = merged(state_of([event("cli", cache_write_tokens=500, cache_write_1h_tokens=103)]))
    assert (record.cache_write_5m_tokens, record.cache_write_1h_tokens) == (397, 103)


def test_a_forked_call_belongs_to_the_session_that_began_first():
    original = event("cli", session_id="zz", session_started_at=NOON, machine_id="m9")
    copy = event("cli", session_id="aa", session_started_at=NOON + timedelta(hours=1), machine_id="m1")
    record, _ = merged(state_of([copy, original]))
    assert (record.session_id, record.machine_id) == ("zz", "m9")


def test_a_call_that_two_machines_hold_belongs_to_the_one_that_saw_it_first():
    first = event("cli", session_id="s", machine_id="m9", user_id="zoe", observed_at=NOON)
    second = event(
        "cli", session_id="s", machine_id="m1", user_id="abe", observed_at=NOON + timedelta(days=1)
    )
    record, _ = merged(state_of([second, first]))
    assert (record.machine_id, record.user_id) == ("m9", "zoe")


def test_sources_are_named_once_each():
    assert sources(state_of([event("proxy"), event("proxy", status="aborted"), event("cli")])) == [
        "cli",
        "proxy",
    ]


@given(st.integers(0, 10**15))
def test_money_as_text_and_nano_dollars_are_the_same_amount(nano):
    assert nano_usd(usd_text(nano)) == nano
