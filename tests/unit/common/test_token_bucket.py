"""Nobody asks faster than they may, and remembering who asked is bounded."""

from __future__ import annotations

import pytest

from tokentide_common.errors import RateLimited
from tokentide_common.token_bucket import TokenBuckets


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_may_burst_and_then_gets_its_rate() -> None:
    clock = Clock()
    rate = TokenBuckets(2.0, 3, clock=clock)
    for _ in range(3):
        rate.admit("key_1")
    with pytest.raises(RateLimited) as caught:
        rate.admit("key_1")
    assert caught.value.retry_after_s == 1
    clock.now += 0.5
    rate.admit("key_1")


def test_one_caller_never_slows_another() -> None:
    rate = TokenBuckets(1.0, 1, clock=Clock())
    rate.admit("key_1")
    rate.admit("key_2")


def test_coming_back_after_the_announced_time_is_enough() -> None:
    clock = Clock()
    rate = TokenBuckets(0.3, 1, clock=clock)
    rate.admit("key_1")
    with pytest.raises(RateLimited) as caught:
        rate.admit("key_1")
    clock.now += caught.value.retry_after_s
    rate.admit("key_1")


def test_refused_requests_cost_nothing() -> None:
    clock = Clock()
    rate = TokenBuckets(1.0, 1, clock=clock)
    rate.admit("key_1")
    for _ in range(5):
        with pytest.raises(RateLimited):
            rate.admit("key_1")
    clock.now += 1
    rate.admit("key_1")


def test_a_flood_of_invented_callers_takes_bounded_memory_and_forgets_who_asked_longest_ago() -> None:
    rate = TokenBuckets(1.0, 1, most=10, clock=Clock())
    rate.admit("busy")
    for n in range(1_000):
        rate.admit(f"invented {n}")
        with pytest.raises(RateLimited):
            rate.admit("busy")
    assert len(rate) == 10
