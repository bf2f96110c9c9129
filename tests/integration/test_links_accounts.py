"""Sessions in which nobody is named: whose account, or whose device, telemetry knows from elsewhere."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.counting import live_rows
from infra.linked import Linked, assert_true_anyhow
from infra.observations import NOON, observations
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical

NUMBERS = itertools.count()
ANN, BOB = "ann@x.io", "bob@x.io"
ACCOUNT, OTHER = "a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"
DEVICE = "d" * 64


def said(call_id: str, session: str, **fields: Any) -> UsageEvent:
    fields = {"source": "otlp", "org_id": "o", "occurred_at": NOON, "output_tokens": 5, **fields}
    if email := fields.get("user_email"):
        fields.setdefault("user_id", email)
    return canonical(UsageEvent(call_id=call_id, session_id=session, **fields))


NAMED = said("req_named", "s0", user_email=ANN, account_id=ACCOUNT, device_id=DEVICE)
CASES: dict[str, tuple[list[UsageEvent], dict[str, str]]] = {
    "the account is known": (
        [NAMED, said("req_1", "s1", account_id=ACCOUNT), said("req_2", "s1", source="cli")],
        {"req_1": ANN, "req_2": ANN},
    ),
    "the proxy knows the account": (
        [NAMED, said("req_1", "s1", source="proxy", account_id=ACCOUNT)],
        {"req_1": ANN},
    ),
    "the device is known": ([NAMED, said("req_1", "s1", device_id=DEVICE)], {"req_1": ANN}),
    "a device of two people": (
        [NAMED, said("req_2", "s2", user_email=BOB, device_id=DEVICE), said("req_1", "s1", device_id=DEVICE)],
        {"req_1": "", "req_2": BOB},
    ),
    "another account on a known device": (
        [NAMED, said("req_1", "s1", device_id=DEVICE), said("req_2", "s1", account_id=OTHER)],
        {"req_1": "", "req_2": ""},
    ),
    "the session names somebody itself": (
        [NAMED, said("req_1", "s1", account_id=ACCOUNT), said("req_2", "s1", user_email=BOB)],
        {"req_1": BOB, "req_2": BOB},
    ),
    "an application's number of a user": (
        [said("req_0", "s0", user_email=ANN, account_id="42"), said("req_1", "s1", account_id="42")],
        {"req_1": ""},
    ),
}


async def test_a_session_is_its_account_s_person_s_whatever_came_first(store, tmp_path):
    orders = {
        f"{case} {number}": [msgspec.structs.replace(e, org_id=f"{case} {number}") for e in order]
        for case, (events, _) in CASES.items()
        for number, order in enumerate(itertools.permutations(events))
    }
    linked = Linked(store, tmp_path, "t")
    # One event of each order at a time: all of them are counted before the next ones come.
    for step in itertools.zip_longest(*orders.values()):
        linked.append(filter(None, step))
        await linked.count_all()
    for org in orders:
        found = {row["call_id"]: row["user_email"] for row in await live_rows(store, org)}
        expected = CASES[org.rsplit(" ", 1)[0]][1]
        assert (org, {call_id: found[call_id] for call_id in expected}) == (org, expected)
    linked.close()


@st.composite
def told(draw: st.DrawFn) -> UsageEvent:
    session = draw(st.sampled_from(["s", "t"]))
    event = draw(observations(call_id=f"req_{session}{draw(st.integers(0, 1))}"))
    return canonical(
        msgspec.structs.replace(
            event,
            source="otlp" if event.source == "link" else event.source,
            session_id=session,
            session_started_at=None,
            user_email=draw(st.sampled_from(["", "", ANN, BOB])),
            account_id=draw(st.sampled_from(["", "", ACCOUNT, OTHER])),
            device_id=draw(st.sampled_from(["", DEVICE])),
        )
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=st.lists(told(), min_size=2, max_size=8), random=st.randoms(use_true_random=False))
def test_any_order_splitting_repetition_and_crash_gives_the_same_people(with_store, tmp_path, events, random):
    again = events + random.choices(events, k=len(events) // 2)
    random.shuffle(again)

    with_store(lambda store: assert_true_anyhow(store, tmp_path, f"o{next(NUMBERS)}", again, random))
