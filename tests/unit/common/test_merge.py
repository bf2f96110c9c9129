"""The laws of the merge, and what wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infra.observations import observations as any_observations
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.identity import alias_and_call
from tokentide_common.merge import (
    TELEMETRY,
    UNSEEN,
    add,
    canonical,
    join,
    merged,
    nano_usd,
    sources,
    speaker,
    usd_text,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOME_IDS = st.sampled_from(["a", "b", "req_1", "x_1", "x_2", ""])


def observations() -> st.SearchStrategy[UsageEvent]:
    return any_observations(links=("a", "req_0", "x_9"))


def state_of(events: list[UsageEvent]) -> dict[str, UsageEvent]:
    return dict(reduce(add, events, {}))


@given(st.lists(observations(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_observations_gives_the_same_state(events, random):
    shuffled = events + random.choices(events, k=3)
    random.shuffle(shuffled)
    assert state_of(shuffled) == state_of(events)
    assert merged(state_of(shuffled)) == merged(state_of(events))


@given(observations(), observations(), observations(), st.sampled_from(["cli", "proxy", "link"]))
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
    # A link saw nothing: it says who, and never how a call went.
    silent = {"model": "", "stop_reason": ""}
    events = [msgspec.structs.replace(e, **silent) if e.source == "link" else e for e in events]
    record, _ = merged(state_of(events))
    saw = [e for e in events if e.source != "link"] or events
    # What was concluded is not listened to where telemetry names the person itself.
    named = any(e.user_email and e.source in TELEMETRY for e in saw)
    for name in ("model", "stop_reason"):
        assert bool(getattr(record, name)) == any(getattr(e, name) for e in (saw if named else events))
    events = saw
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


def test_a_retry_that_one_source_counted_is_not_undone_by_one_that_counts_none():
    cut, log = event("proxy", status="aborted"), event("cli", output_tokens=5)
    telemetry = event("otlp", retry_attempt=2)
    for said, attempt in (
        ([event("proxy"), telemetry, log], 2),
        ([event("proxy", retry_attempt=1), telemetry], 1),
    ):
        assert merged(state_of(said))[0].retry_attempt == attempt
    assert merged(state_of([cut, log]))[0].retry_attempt == 0


def test_a_record_of_before_retries_were_counted_is_the_same_observation_as_one_that_counts_none():
    older = b'{"call_id":"req_1","source":"proxy","occurred_at":"2026-11-22T12:00:00Z"}'
    assert decode_wire_event(older) == UsageEvent(call_id="req_1", source="proxy", occurred_at=NOON)
    # And as it is written: what the index keeps of it is a digest of that.
    assert encode_event(decode_wire_event(older)) == older


def test_the_speed_that_answered_goes_before_the_one_that_was_asked_for():
    asked, log = event("otlp", speed="standard"), event("cli", speed="fast")
    assert merged(state_of([asked, log]))[0].speed == "fast"
    assert merged(state_of([asked]))[0].speed == "standard"


def test_a_call_that_the_proxy_saw_break_off_did_not_end_well_because_the_log_has_its_start():
    log = event("cli", message_id="msg_a", output_tokens=1, input_tokens=9)
    broken = event("proxy", message_id="msg_a", output_tokens=3, status="aborted", error_type="client_left")
    assert merged(state_of([log, broken]))[0].status == "aborted"
    ended = msgspec.structs.replace(log, stop_reason="end_turn")
    unread = msgspec.structs.replace(broken, error_type="answer_unfinished")
    unseen = msgspec.structs.replace(broken, error_type="usage_unread")
    for said in ([ended, broken], [log, unread], [log, unseen], [log, broken, event("proxy")]):
        assert merged(state_of(said))[0].status == "ok"


def test_an_answer_that_the_log_has_under_a_request_that_broke_is_not_counted_there():
    broken = event("proxy", message_id="msg_a", input_tokens=9, output_tokens=6, status="aborted")
    log = event("cli", message_id="msg_b", output_tokens=77, stop_reason="end_turn", project="p")
    record, who = merged(state_of([log, broken]))
    assert (record.output_tokens, record.input_tokens, who) == (6, 9, "proxy")
    assert (record.status, record.message_id, record.stop_reason) == ("aborted", "msg_a", "")
    assert (record.project, sources(state_of([log, broken]))) == ("p", ["cli", "proxy"])
    found = event("otlp", output_tokens=77)
    record, who = merged(state_of([log, broken, found]))
    assert (record.output_tokens, record.status, who) == (6, "aborted", "proxy")
    of_its_own = event("otlp", input_tokens=9, output_tokens=6, reported_cost_usd="0.5")
    record, who = merged(state_of([log, broken, of_its_own]))
    assert (record.output_tokens, record.status, record.reported_cost_usd) == (6, "aborted", "0.5")


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


def test_what_was_only_concluded_names_people_and_counts_for_nothing_else():
    log = event("cli", output_tokens=6, user_id="machine 7", team="a", observed_at=NOON)
    early = NOON - timedelta(days=1)
    person = {"user_id": "zoe@x.io", "user_email": "zoe@x.io", "team": "b"}
    link = canonical(UsageEvent(call_id="req_1", source="link", occurred_at=early, output_tokens=9, **person))
    record, token_source = merged(state_of([log, link]))
    assert (record.user_id, record.user_email, record.team) == ("zoe@x.io", "zoe@x.io", "b")
    assert (record.output_tokens, token_source, record.source) == (6, "cli", "cli")
    assert (record.occurred_at, record.observed_at) == (NOON, NOON)
    assert sources(state_of([log, link])) == ["cli"]


def test_telemetry_of_the_call_itself_names_its_user_before_what_was_concluded():
    telemetry = event("otlp", user_id="abe@x.io", user_email="abe@x.io", account_id="acc")
    link = event("link", user_id="zoe@x.io", user_email="zoe@x.io")
    assert merged(state_of([telemetry, link]))[0].user_id == "abe@x.io"


def test_a_user_of_the_key_gives_way_to_the_person_whom_telemetry_of_the_session_names():
    telemetry = event("otlp", user_id="machine 7", device_id="f00", duration_ms=5)
    link = event("link", user_id="zoe@x.io", user_email="zoe@x.io")
    assert merged(state_of([telemetry, link]))[0].user_id == "zoe@x.io"


def test_an_account_or_a_device_stands_for_a_user_only_where_nobody_names_one():
    device = event("otlp", user_id="f00", device_id="f00")
    account = event("otlp", user_id="acc", account_id="acc", device_id="f00")
    named = event("cli", user_id="zoe")
    for said, user in (([device, named], "zoe"), ([account, named], "zoe"), ([account], "acc")):
        assert merged(state_of(said))[0].user_id == user


def test_of_two_persons_the_smaller_address_is_concluded_with_what_belongs_to_it():
    zoe = event("link", user_email="zoe@x.io", user_id="zoe@x.io", team="z", department="y")
    abe = event("link", user_email="abe@x.io", user_id="abe@x.io")
    abe_known = event("link", user_email="abe@x.io", user_id="abe@x.io", team="b")
    for said in ([zoe, abe, abe_known], [abe_known, zoe, abe], [abe, abe_known, zoe]):
        record, _ = merged(state_of(said))
        assert (record.user_id, record.team, record.department) == ("abe@x.io", "b", "")


def test_a_call_of_which_something_was_only_concluded_is_not_counted_yet():
    link = event("link", user_id="zoe@x.io", user_email="zoe@x.io")
    assert merged(state_of([link]))[0].same_as == UNSEEN
    assert sources(state_of([link])) == []
    assert merged(state_of([link, event("cli")]))[0].same_as == ""


def test_a_call_is_absorbed_whoever_says_so_and_by_the_id_that_ranks_first():
    first, second = event("otlp", same_as="x_5"), event("link", same_as="req_7")
    record, _ = merged(state_of([event("cli", output_tokens=3), first, second]))
    assert record.same_as == "req_7"


@given(SOME_IDS, SOME_IDS, SOME_IDS)
def test_links_lead_down_one_order_of_ids_and_never_in_a_circle(a, b, c):
    assert alias_and_call(a, b) == alias_and_call(b, a)
    if alias_and_call(a, b)[1] == a and alias_and_call(b, c)[1] == b:
        assert alias_and_call(a, c)[1] == a
    assert alias_and_call("x_0", "zz:1") == ("x_0", "zz:1")


@given(st.integers(0, 10**15))
def test_money_as_text_and_nano_dollars_are_the_same_amount(nano):
    assert nano_usd(usd_text(nano)) == nano
