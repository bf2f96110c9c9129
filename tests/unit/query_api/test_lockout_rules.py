"""How long whoever guesses must wait."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.accounts.lockout import RULES

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@rules
@given(attempts=st.integers(0, 10**9))
def test_the_wait_grows_to_its_bound_and_never_shrinks(rule, attempts):
    wait, next_wait = rule.wait(attempts), rule.wait(attempts + 1)
    assert wait <= next_wait <= timedelta(seconds=rule.longest_s)
    assert (wait == timedelta(0)) == (attempts < rule.free)


@rules
@given(attempts=st.integers(0, 1000), seconds=st.floats(0, 1e9))
def test_attempts_are_forgotten_one_by_one(rule, attempts, seconds):
    left = rule.left(attempts, timedelta(seconds=seconds))
    assert 0 <= left <= attempts
    assert rule.left(attempts, timedelta(seconds=attempts * rule.forgets_one_s)) == 0


def test_a_clock_that_goes_back_forgives_nothing_twice():
    assert RULES["email"].left(3, timedelta(seconds=-1)) >= 3
