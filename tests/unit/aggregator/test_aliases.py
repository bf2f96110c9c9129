"""What a call under two ids passes on, and to whom."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.observations import NOON, observations
from tokentide_aggregator.aliases import directed, other_links, passed_on, records_of
from tokentide_aggregator.fold import Waiting
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.merge import State, add, canonical


def event(**fields: object) -> UsageEvent:
    return canonical(
        UsageEvent(
            **{"call_id": "x_1", "source": "otlp", "org_id": "o", "occurred_at": NOON, **fields}  # type: ignore[arg-type]
        )
    )


def state_of(events: list[UsageEvent]) -> State:
    return reduce(add, events, {})


def received(events: list[UsageEvent]) -> list[UsageEvent]:
    return [canonical(decode_wire_event(encode_event(one))) for one in events]


def of(call_id: str, state: State) -> State:
    return {who: msgspec.structs.replace(one, call_id=call_id, same_as="") for who, one in state.items()}


@given(st.lists(observations(call_id="x_1"), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_what_is_passed_on_is_all_that_was_said_whenever_and_however_often_it_was_passed_on(events, random):
    link = event(same_as="req_1", output_tokens=1)
    events = [*events, link]
    random.shuffle(events)
    told: State = {}
    state: State = {}
    for one in events:
        state = add(state, one)
        for part in received(passed_on(state)) * random.choice([0, 1, 2]):
            told = add(told, part)
    told = reduce(add, received(passed_on(state)), told)
    assert told == of("req_1", {who: one for who, one in state.items() if who in told})
    silent = [one for who, one in state.items() if who not in told]
    assert not any(one.input_tokens or one.output_tokens for one in silent)
    assert not any(one.user_email for one in silent if one.source == "link")


def test_a_call_that_stands_for_itself_passes_nothing_on():
    assert passed_on(state_of([event(output_tokens=5)])) == []


def test_what_only_links_makes_no_call_of_the_id_that_it_names():
    assert passed_on(state_of([event(same_as="req_1", model="gemini-2.5-pro")])) == []


def test_the_person_of_the_key_that_a_link_came_with_makes_no_call_either():
    said = {"same_as": "req_1", "user_id": "zoe", "user_email": "zoe@x.io", "machine_id": "m", "team": "t"}
    assert passed_on(state_of([event(**said)])) == []


def test_a_person_concluded_for_the_one_id_is_passed_on_to_the_other():
    known = [event(same_as="req_1", output_tokens=1), event(source="link", user_email="zoe@x.io")]
    assert [e.user_email for e in passed_on(state_of(known)) if e.source == "link"] == ["zoe@x.io"]


def test_a_link_that_leads_up_is_turned_and_told_to_the_other_call():
    up = event(call_id="req_1", same_as="x_1", output_tokens=3)
    kept, turned = directed([up])
    assert (kept[0].same_as, kept[0].output_tokens) == ("", 3)
    assert [(e.call_id, e.same_as, e.source) for e in turned] == [("x_1", "req_1", "link")]
    assert directed(turned) == (turned, [])


def test_a_call_that_is_said_to_be_itself_stands_for_itself():
    kept, turned = directed([event(same_as="x_1")])
    assert (kept[0].same_as, turned) == ("", [])


def test_two_calls_that_one_is_said_to_be_are_one():
    events = [event(same_as="x_0"), event(same_as="req_1")]
    (link,) = other_links(events, {}, state_of(events))
    assert (link.call_id, link.same_as) == ("x_0", "req_1")
    (link,) = other_links(events[1:], state_of(events[:1]), state_of(events))
    assert (link.call_id, link.same_as) == ("x_0", "req_1")


def test_whoever_waits_is_answered_by_the_call_that_counts():
    waiting = [Waiting(b"me", "b", 0), Waiting(b"me", "b", 4)]
    early = event(call_id="req_1", occurred_at=NOON - timedelta(seconds=1))
    records = records_of([early, event(call_id="req_1")], waiting)
    assert [dict(r.headers).get("index") for r in records] == [None, b"0", b"4"]
    assert {r.key for r in records} == {b"req_1"}
    assert records_of([], waiting) == []
