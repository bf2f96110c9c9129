import pytest

from tokentide_common.errors import Unavailable
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.prefer import wait_preference
from tokentide_ingest.routes import joined_headers


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
