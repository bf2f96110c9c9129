"""Leases: one holder at a time, and a fence that only rises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import Engine

from tokentide_common.database import open_database
from tokentide_common.leases import acquire_lease, release_lease, renew_lease

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def engine(database_url) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def test_a_lease_that_is_held_is_refused_until_it_expires(engine):
    assert acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW) == 1
    assert acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(9.9)) is None
    assert acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(10)) == 2


def test_leases_of_different_names_do_not_touch_each_other(engine):
    assert acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW) == 1
    assert acquire_lease(engine, "alerts", "b", ttl_s=10, now=NOW) == 1


def test_renewal_keeps_the_lease_and_its_fence(engine):
    fence = acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW)
    assert renew_lease(engine, "ranker", "a", fence, ttl_s=10, now=later(8))
    assert acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(15)) is None
    assert renew_lease(engine, "ranker", "a", fence, ttl_s=10, now=later(16))


def test_a_stalled_holder_cannot_renew_after_another_took_over(engine):
    stalled = acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW)
    successor = acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(11))
    assert successor > stalled
    assert not renew_lease(engine, "ranker", "a", stalled, ttl_s=10, now=later(12))
    assert not release_lease(engine, "ranker", "a", stalled, now=later(12))
    assert renew_lease(engine, "ranker", "b", successor, ttl_s=10, now=later(12))


def test_an_expired_lease_that_nobody_took_is_still_its_holders(engine):
    fence = acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW)
    assert renew_lease(engine, "ranker", "a", fence, ttl_s=10, now=later(60))
    assert acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(61)) is None


def test_a_released_lease_is_free_at_once_and_its_fence_goes_on_rising(engine):
    fence = acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW)
    assert release_lease(engine, "ranker", "a", fence, now=later(1))
    assert acquire_lease(engine, "ranker", "b", ttl_s=10, now=later(1)) == fence + 1


def test_a_restarted_holder_of_the_same_name_gets_a_new_fence_and_its_old_one_is_dead(engine):
    old = acquire_lease(engine, "ranker", "a", ttl_s=10, now=NOW)
    new = acquire_lease(engine, "ranker", "a", ttl_s=10, now=later(1))
    assert new == old + 1
    assert not renew_lease(engine, "ranker", "a", old, ttl_s=10, now=later(2))


def test_of_many_that_race_for_an_expired_lease_exactly_one_wins(engine):
    acquire_lease(engine, "ranker", "gone", ttl_s=1, now=NOW)
    for round_ in range(5):
        moment = later(10 * (round_ + 1))

        def attempt(holder: int, moment: datetime = moment) -> int | None:
            return acquire_lease(engine, "ranker", f"h{holder}", ttl_s=5, now=moment)

        with ThreadPoolExecutor(8) as threads:
            fences = [fence for fence in threads.map(attempt, range(8)) if fence is not None]
        assert fences == [round_ + 2]
