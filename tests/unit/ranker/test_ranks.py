"""Ranks: the laws of competition ranking, and equality with the plainest way to count them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_ranker.ranks import competition_ranks, rank

# Few different values, so that ties are common; entities of every alphabet, the empty one included.
values = st.dictionaries(st.text(max_size=4), st.integers(0, 5) | st.integers(0, 2**62), max_size=30)


def test_equal_values_share_a_rank_and_the_next_one_is_as_many_places_later() -> None:
    assert competition_ranks({"a": 30, "b": 20, "c": 20, "d": 10}) == {"a": 1, "b": 2, "c": 2, "d": 4}


def test_the_best_is_ahead_of_all_others_and_the_last_of_none() -> None:
    ranking = rank({"a": 30, "b": 20, "c": 20, "d": 10, "e": 0}, {})
    assert ranking.percentiles == [100.0, 50.0, 50.0, 25.0, 0.0]


def test_one_alone_is_first_with_everything() -> None:
    ranking = rank({"a": 7}, {})
    assert (ranking.ranks, ranking.percentiles, ranking.shares) == ([1], [100.0], [1.0])


def test_nothing_has_no_ranking_and_breaks_nothing() -> None:
    ranking = rank({}, {"a": 1})
    assert (ranking.total, ranking.entities, ranking.ranks) == (0, [], [])


def test_who_was_absent_before_has_no_previous_rank() -> None:
    ranking = rank({"a": 1, "new": 2}, {"gone": 9, "a": 5})
    assert dict(zip(ranking.entities, ranking.previous_ranks, strict=True)) == {"new": None, "a": 2}


def test_shares_of_nothing_are_nothing() -> None:
    assert rank({"a": 0, "b": 0}, {}).shares == [0.0, 0.0]


@given(values, values)
def test_ranks_equal_counting_who_is_better(now: dict[str, int], before: dict[str, int]) -> None:
    ranking = rank(now, before)
    assert ranking.entities == sorted(now, key=lambda entity: (-now[entity], entity))
    assert ranking.total == sum(now.values())
    for index, entity in enumerate(ranking.entities):
        better = sum(value > now[entity] for value in now.values())
        worse = sum(value < now[entity] for value in now.values())
        assert ranking.values[index] == now[entity]
        assert ranking.ranks[index] == better + 1
        if len(now) > 1:
            assert ranking.percentiles[index] == pytest.approx(100 * Fraction(worse, len(now) - 1))
        expected = sum(value > before[entity] for value in before.values()) + 1 if entity in before else None
        assert ranking.previous_ranks[index] == expected


@given(values)
def test_shares_add_up_to_the_whole(now: dict[str, int]) -> None:
    shares = rank(now, {}).shares
    assert all(0 <= share <= 1 for share in shares)
    if any(now.values()):
        assert sum(shares) == pytest.approx(1)
