"""Whom telemetry names for a session, and which calls that concerns."""

from __future__ import annotations

import itertools
from datetime import timedelta
from functools import reduce

from infra.observations import NOON
from tokentide_aggregator.session_facts import ACCOUNT as ACCOUNT_ALONE
from tokentide_aggregator.session_facts import (
    KNOWN,
    PERSON,
    SessionFact,
    is_nameless,
    known_facts,
    person_fact,
    person_of,
    subjects,
    unnamed,
)
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State, add, canonical, merged

ACCOUNT, DEVICE = "a0000000-0000-4000-8000-000000000001", "d" * 64


def event(**fields: object) -> UsageEvent:
    said = {"call_id": "req_1", "source": "cli", "org_id": "o", "occurred_at": NOON, "session_id": "s"}
    return canonical(UsageEvent(**{**said, **fields}))  # type: ignore[arg-type]


def state_of(*events: UsageEvent) -> State:
    return reduce(add, events, {})


def telemetry(**fields: object) -> UsageEvent:
    return event(**{"source": "otlp", "call_id": "req_0", "user_email": "zoe@x.io", **fields})


def test_telemetry_that_names_a_person_says_so_of_its_session():
    fact = person_fact(telemetry(team="a", account_id="acc"))
    assert (fact.kind, fact.session, fact.user_email, fact.user_id) == (
        PERSON,
        ("o", "s"),
        "zoe@x.io",
        "zoe@x.io",
    )
    assert (fact.team, fact.account_id) == ("a", "acc")


def test_neither_a_log_nor_a_short_id_says_who_a_session_belongs_to():
    assert person_fact(event(user_email="zoe@x.io")) is None
    assert person_fact(telemetry(user_email="", account_id="42", device_id="f00", machine_id="m")) is None


def test_who_is_named_with_an_account_and_a_device_is_known_by_them_where_nobody_is():
    named = known_facts(person_fact(telemetry(account_id=ACCOUNT, device_id=DEVICE)))
    alone = person_fact(telemetry(user_email="", session_id="t", device_id=DEVICE))
    assert (alone.kind, alone.user_email) == (ACCOUNT_ALONE, "")
    assert subjects([alone]) < {fact.session for fact in named}
    assert subjects([alone, person_fact(telemetry(session_id="t"))]) == set()
    assert known_facts(alone) == []


def test_an_account_goes_before_a_device_and_an_unknown_one_is_somebody_else():
    call = unnamed(state_of(event()))
    by_device, by_account = (
        SessionFact("o", name, KNOWN, f"{name}@x.io", name, **{f"{by}_id": name})
        for name, by in (("bob", "device"), ("zoe", "account"))
    )
    unknown = SessionFact("o", "s", ACCOUNT_ALONE, account_id=ACCOUNT, device_id=DEVICE)
    assert person_of(call, [by_device, by_account]).user_email == "zoe@x.io"
    assert person_of(call, [by_device]).user_email == "bob@x.io"
    assert person_of(call, [by_device, unknown]).user_email == ""
    assert person_of(call, [unknown]) is None


def test_a_client_that_names_no_request_is_known_by_its_calls():
    old = telemetry(call_id="x_1", client="claude-code", user_email="", output_tokens=5)
    assert is_nameless(state_of(old))
    assert is_nameless(state_of(telemetry(call_id="x_1", client="codex", user_email="", output_tokens=5)))
    other = telemetry(call_id="x_1", client="an app", user_email="", output_tokens=5)
    assert not is_nameless(state_of(other))


def test_a_call_of_a_linked_session_gets_the_person_until_its_own_telemetry_names_one():
    facts = [person_fact(telemetry(team="a"))]
    logged = state_of(event(user_id="machine 7", output_tokens=3))
    link = person_of(unnamed(logged), facts)
    record, _ = merged(add(logged, link))
    assert (record.user_id, record.user_email, record.team) == ("zoe@x.io", "zoe@x.io", "a")
    seen = add(add(logged, link), event(source="otlp", user_email="abe@x.io", user_id="abe@x.io"))
    assert unnamed(seen) is None
    assert (merged(seen)[0].user_id, merged(seen)[0].team) == ("abe@x.io", "")


def test_what_a_call_knows_already_is_not_said_again():
    facts = [person_fact(telemetry())]
    state = state_of(event())
    state = add(state, person_of(unnamed(state), facts))
    assert person_of(unnamed(state), facts) is None
    assert person_of(unnamed(state_of(event())), []) is None


def test_a_session_with_two_persons_ends_with_the_same_one_in_every_order():
    facts = [
        person_fact(telemetry(user_email="zoe@x.io", user_id="zoe@x.io", team="z")),
        person_fact(telemetry(user_email="abe@x.io", user_id="abe@x.io")),
        person_fact(telemetry(user_email="abe@x.io", user_id="abe@x.io", team="b")),
    ]
    ends = set()
    for order in itertools.permutations(facts):
        state = state_of(event())
        for known in range(1, len(order) + 1):
            link = person_of(unnamed(state), order[:known])
            state = state if link is None else add(state, link)
        record, _ = merged(state)
        ends.add((record.user_email, record.user_id, record.team))
    assert ends == {("abe@x.io", "abe@x.io", "b")}


def test_a_person_is_said_of_a_call_at_its_own_time():
    moved = state_of(event(occurred_at=NOON - timedelta(hours=1)), event())
    link = person_of(unnamed(moved), [person_fact(telemetry())])
    assert merged(add(moved, link))[0].occurred_at == NOON - timedelta(hours=1)
