"""Whose a series is: what its own telemetry says, then what was concluded, then what a key stands for."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from infra.activity_facts import fact
from tokentide_aggregator.activity_people import conclusion, described
from tokentide_aggregator.activity_rows import signed_rows
from tokentide_aggregator.activity_series import (
    NOTHING,
    Series,
    decode_series,
    encode_series,
    joined,
    series_of,
)
from tokentide_aggregator.session_facts import KNOWN, PERSON, SessionFact

DEVICE = "d" * 64
ANN = SessionFact("o", "s", PERSON, "ann@x.io", "ann", team="red")
KEY = ("o", "series")


def told(**fields: str) -> Series:
    return series_of(fact("series", session_id="s", **fields))


def linked(series: Series, *facts: SessionFact) -> Series:
    link = conclusion(KEY, series, facts)
    return series if link is None else joined(series, series_of(link))


def test_what_telemetry_names_goes_before_what_was_concluded_whichever_came_first() -> None:
    anonymous, named = told(user_id=DEVICE), told(user_id="bob", user_email="bob@x.io")
    early = joined(linked(anonymous, ANN), named)
    assert described(linked(anonymous, ANN))["user_id"] == "ann"
    assert described(early)["user_email"] == described(linked(named, ANN))["user_email"] == "bob@x.io"


def test_what_was_concluded_goes_before_the_key_of_a_log_and_fills_in_a_team() -> None:
    log = linked(told(source="cli", user_id="machine 7", user_email="lead@x.io", team="blue"), ANN)
    assert [described(log)[name] for name in ("user_id", "user_email", "team")] == ["ann", "ann@x.io", "red"]
    telemetry = linked(told(team="blue"), ANN)
    assert described(telemetry)["team"] == "blue"


def test_what_was_said_once_is_not_said_again() -> None:
    assert conclusion(KEY, linked(told(), ANN), [ANN]) is None
    assert conclusion(KEY, NOTHING, [ANN]) is None
    assert conclusion(KEY, told(), []) is None


def test_a_device_of_two_people_gives_back_what_it_took() -> None:
    anonymous = told(user_id=DEVICE)
    people = [SessionFact("o", "d", KNOWN, f"{name}@x.io", name, device_id=DEVICE) for name in ("ann", "bob")]
    for order in (people, people[::-1]):
        assert described(reduce(linked, order, anonymous)) == described(anonymous)


def test_all_of_a_series_moves_to_its_person_and_a_state_is_read_back_as_it_was() -> None:
    before, now = told(), linked(told(), ANN)
    back, rows = signed_rows(KEY, before, now)
    assert (len(back), len(rows)) == (1, 1)
    assert b"ann@x.io" in rows[0]
    assert b"ann" not in back[0]
    assert decode_series(encode_series(now)) == now
    assert decode_series(encode_series(before)[: encode_series(before).rindex(b",")] + b"]") == before


_people = st.builds(
    lambda email, kind: (
        SessionFact("o", "s", PERSON, email, email)
        if kind == PERSON
        else SessionFact("o", "d", KNOWN, email, email, device_id=DEVICE)
    ),
    st.sampled_from(["ann@x.io", "bob@x.io"]),
    st.sampled_from([PERSON, KNOWN]),
)


@given(st.lists(_people, max_size=5), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_conclusions_gives_the_same_person(people, random) -> None:
    again = people + people[:2]
    random.shuffle(again)
    at_once, one_by_one = linked(told(), *people), reduce(linked, again, told())
    assert described(at_once) == described(one_by_one)
