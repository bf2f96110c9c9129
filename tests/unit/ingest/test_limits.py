import pytest

from tokentide_common.errors import RateLimited, Unavailable
from tokentide_ingest.limits import ByteBudget, RateLimit
from tokentide_ingest.prefer import wait_preference
from tokentide_ingest.routes import joined_headers


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_key_may_burst_and_then_gets_its_rate() -> None:
    clock = Clock()
    rate = RateLimit(2.0, 3, clock=clock)
    for _ in range(3):
        rate.admit("key_1")
    with pytest.raises(RateLimited) as caught:
        rate.admit("key_1")
    assert caught.value.retry_after_s == 1
    clock.now += 0.5
    rate.admit("key_1")


def test_one_key_never_slows_another() -> None:
    rate = RateLimit(1.0, 1, clock=Clock())
    rate.admit("key_1")
    rate.admit("key_2")


def test_coming_back_after_the_announced_time_is_enough() -> None:
    clock = Clock()
    rate = RateLimit(0.3, 1, clock=clock)
    rate.admit("key_1")
    with pytest.raises(RateLimited) as caught:
        rate.admit("key_1")
    clock.now += caught.value.retry_after_s
    rate.admit("key_1")


def test_refused_requests_cost_nothing() -> None:
    clock = Clock()
    rate = RateLimit(1.0, 1, clock=clock)
    rate.admit("key_1")
    for _ in range(5):
        with pytest.raises(RateLimited):
            rate.admit("key_1")
    clock.now += 1
    rate.admit("key_1")


def test_shares_are_given_back_whatever_happens() -> None:
    budget = ByteBudget(10)
    with budget.share() as share:
        share.grow(8)
        with pytest.raises(Unavailable):
            share.grow(8)
    assert budget.held == 0


def test_the_budget_is_shared_by_all_requests() -> None:
    budget = ByteBudget(10)
    with budget.share() as one, budget.share() as other:
        one.grow(6)
        with pytest.raises(Unavailable):
            other.grow(6)
        other.grow(4)
    assert budget.held == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ("wait=10, respond-async", 10),
        ("return=minimal; foo, wait = 7", 7),
        ('Wait="3"', 3),
        ("wait=3600", 30),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=soon", 0),
        ("wait", 0),
        ("await=5", 0),
        ("wait=99999999999999999999", 0),
    ],
)
def test_the_wait_preference_is_read_as_the_rfc_says(header: str, seconds: int) -> None:
    assert wait_preference(header) == seconds


def test_repeated_headers_are_one_list() -> None:
    assert joined_headers([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {"a": "1, 3", "b": "2"}
