"""Replicas count requests together, each in one statement, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from tokentide_common.accounts_schema import token_buckets
from tokentide_common.database import open_async, open_database, reading_async
from tokentide_common.errors import RateLimited
from tokentide_common.metrics import Metrics
from tokentide_query_api.accounts.shared_buckets import SharedBuckets
from tokentide_query_api.rate_limits import Pace

PACE = Pace(per_minute=6)


class Clock:
    now = 1_000_000.0

    furthest = now

    def __call__(self) -> float:
        return self.now

    def steady(self) -> float:
        self.furthest = max(self.furthest, self.now)
        return self.furthest


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[tuple[SharedBuckets, SharedBuckets, Clock]]:
    open_database(database_url).dispose()
    clock, engines = Clock(), [open_async(database_url) for _ in range(2)]
    one, other = (SharedBuckets(engine, clock=clock, steady=clock.steady) for engine in engines)
    yield one, other, clock
    for engine in engines:
        await engine.dispose()


async def admitted(buckets: SharedBuckets, caller: str) -> bool:
    try:
        await buckets.admit(caller, PACE)
    except RateLimited as error:
        return not 1 <= error.retry_after_s <= 10  # a refusal that says when to come back
    return True


async def test_two_replicas_at_once_let_no_more_in_than_one_may(
    replicas: tuple[SharedBuckets, SharedBuckets, Clock],
) -> None:
    one, other, clock = replicas
    said = await asyncio.gather(*(admitted(r, "busy") for r in (one, other) for _ in range(8)))
    assert sum(said) == PACE.per_minute
    assert await admitted(other, "somebody else")
    clock.now += 20  # two requests' worth of time
    said = await asyncio.gather(*(admitted(r, "busy") for r in (one, other) for _ in range(3)))
    assert sum(said) == 2
    clock.now -= 300  # another replica's clock is behind: nothing is filled, and nothing breaks
    assert not await admitted(one, "busy")


async def test_a_flood_is_no_flood_of_writes(
    replicas: tuple[SharedBuckets, SharedBuckets, Clock],
) -> None:
    one, _, _ = replicas
    written: list[str] = []
    sa.event.listen(
        one._engine.sync_engine, "before_cursor_execute", lambda _c, _k, sql, *_: written.append(sql)
    )
    said = [await admitted(one, "flood") for _ in range(50)]
    assert sum(said) == PACE.per_minute
    assert len([sql for sql in written if "token_buckets" in sql]) == PACE.per_minute


async def test_full_buckets_are_forgotten(replicas: tuple[SharedBuckets, SharedBuckets, Clock]) -> None:
    one, other, clock = replicas
    await one.admit("gone", PACE)
    clock.now += 4_000
    await one.admit("here", PACE)
    await other.forget_idle()
    async with reading_async(one._engine) as connection:
        left = (await connection.execute(sa.select(token_buckets.c.bucket))).scalars().all()
    assert left == ["here"]


async def test_with_the_database_away_each_replica_counts_for_itself() -> None:
    engine = open_async("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    metrics = Metrics()
    buckets = SharedBuckets(engine, metrics=metrics)
    with capture_logs() as told:
        said = [await admitted(buckets, "busy") for _ in range(PACE.per_minute + 2)]
    assert sum(said) == PACE.per_minute
    assert [line["event"] for line in told] == ["rate_limits_not_shared"], "once, not at each request"
    assert b"tokentide_query_rate_limits_alone_total 6.0" in metrics.render()
    await engine.dispose()
