"""What the index answers without the ledger: exactly the repeats, and nothing that could change a call."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from infra.observations import NOON, observations, times
from tokentide_aggregator.block import FoldedCall, build
from tokentide_aggregator.call_ledger import CallLedger
from tokentide_aggregator.counted_call import DIGESTS_BYTES, CountedCall, entry, says_nothing_new
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.identity import call_hash
from tokentide_common.merge import add, canonical

LEDGER = CallLedger(lambda _event: 1, "v1")
KEY = ("o", "req_1")


def counted(batches: list[list[UsageEvent]]) -> CountedCall:
    """Return what memory, or the index, knows of a call after batches."""
    known: dict[bytes, CountedCall] = {}
    for events in batches:
        asked = FoldedCall(KEY, 0, events, {})
        block = build({call_hash(*KEY): asked}, known, lambda _event: 1, "v1")
        known |= {change.key: LEDGER.recall(LEDGER.keep(change), asked) for change in block.changes}
    return known[call_hash(*KEY)]


def event(**fields: object) -> UsageEvent:
    return canonical(
        UsageEvent(**{"call_id": "req_1", "org_id": "o", "source": "cli", "occurred_at": NOON, **fields})
    )


few_observations = st.lists(observations(links=("a", "b")), min_size=1, max_size=3)


@given(st.lists(few_observations, min_size=1, max_size=3), few_observations, times)
def test_what_the_index_takes_for_repeats_changes_nothing_and_links_nothing(batches, others, moment):
    said = [e for batch in batches for e in batch]
    call = counted(batches)
    state = dict(reduce(add, said, {}))
    older = [replace(e, output_tokens=e.output_tokens // 2, observed_at=moment) for e in (*said, *others)]
    for asked in (*said, *others, *(replace(e, observed_at=moment) for e in said), *older):
        if says_nothing_new([asked], call.observed_ms, call.digests):
            assert add(state, asked) == state
            assert not asked.same_as


@given(st.lists(st.lists(observations(), min_size=1, max_size=1), min_size=1, max_size=4))
def test_every_later_repeat_of_what_changed_a_call_is_known_without_the_ledger(batches):
    call, latest = counted(batches), NOON + timedelta(days=1)
    state = {}
    for (said,) in batches:
        before, state = state, add(state, said)
        if state is not before and said.source != "link":
            repeat = replace(said, observed_at=latest)
            assert says_nothing_new([repeat], call.observed_ms, call.digests)


@pytest.mark.parametrize(
    "other",
    [
        {"output_tokens": 6},
        {"source": "otlp"},
        {"session_id": "another"},
        {"tags": {"observed_at": "b"}},
        {"observed_at": NOON - timedelta(seconds=1)},
        {"same_as": "req_2"},
    ],
)
def test_what_differs_from_all_that_was_said_is_looked_up(other):
    said = event(output_tokens=5, tags={"observed_at": "a"})
    call = counted([[said]])
    assert says_nothing_new([said], call.observed_ms, call.digests)
    assert not says_nothing_new([said, replace(said, **other)], call.observed_ms, call.digests)


def test_a_call_that_is_counted_under_another_id_is_always_looked_up():
    said = event(output_tokens=5)
    for batches in ([[said, event(same_as="req_0")]], [[said], [event(same_as="req_0")]]):
        assert counted(batches).digests == b""


def test_a_state_with_less_output_than_one_that_is_held_says_nothing_new_and_one_with_more_does():
    call = counted([[event(output_tokens=5)], [event(output_tokens=900)]])
    older, newer = event(output_tokens=899), event(output_tokens=901)
    assert says_nothing_new([older, event()], call.observed_ms, call.digests)
    assert not says_nothing_new([newer], call.observed_ms, call.digests)
    assert not says_nothing_new([replace(older, input_tokens=1)], call.observed_ms, call.digests)


def test_output_beyond_what_the_index_can_hold_is_looked_up():
    call = counted([[event(output_tokens=1 << 40)]])
    assert says_nothing_new([event(output_tokens=7)], call.observed_ms, call.digests)
    assert not says_nothing_new([event(output_tokens=1 << 40)], call.observed_ms, call.digests)


def test_what_an_index_of_an_older_form_holds_answers_nothing():
    said = event(output_tokens=5)
    held = entry(said, encode_event(said))
    assert says_nothing_new([said], 0, held)
    for size in (8, 16, 32):
        assert not says_nothing_new([said], 0, (held * 4)[4 : 4 + size])


def test_only_the_newest_observations_of_a_call_are_held_however_many_there_are():
    said = [event(output_tokens=n, project=f"p{n}") for n in range(1, 100)]
    call = counted([[e] for e in said])
    assert len(call.digests) == DIGESTS_BYTES
    assert says_nothing_new(said[-4:], call.observed_ms, call.digests)
    assert not says_nothing_new(said[:1], call.observed_ms, call.digests)


def test_a_call_that_grows_a_hundred_times_is_held_once():
    call = counted([[event(output_tokens=n)] for n in range(1, 100)])
    assert len(call.digests) == DIGESTS_BYTES // 4


@given(observations(), st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=3), times)
def test_an_entry_depends_on_everything_but_when_it_was_observed(said, tags, moment):
    own = f',"output_tokens":{said.output_tokens}'
    said = replace(said, call_id='req_",observed_at":"1', tags={**tags, own: own, "output_tokens": "7"})

    def entry_of(**changed):
        other = replace(said, **changed)
        return entry(other, encode_event(other))

    assert entry_of() == entry_of(observed_at=moment)
    more = entry_of(output_tokens=said.output_tokens + 1)
    assert (more[:8], more[8:]) == (entry_of()[:8], (said.output_tokens + 1).to_bytes(4, "little"))
    for other in ({"project": said.project + "x"}, {"tags": tags}, {"input_tokens": said.input_tokens + 1}):
        assert entry_of()[:8] != entry_of(**other)[:8]
