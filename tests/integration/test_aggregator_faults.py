"""Faults against a durable broker: nothing acknowledged is lost or doubled, and lag returns to zero."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from infra.aggregators import stopped
from infra.observations import NOON
from infra.waiting import until
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical
from tokentide_common.outbox import partition_of
from tokentide_common.store import rows


def events(count: int, *, calls: int, seed: int = 1) -> list[UsageEvent]:
    """Return events of which some repeat, some upgrade and some downgrade calls that came before."""
    order = random.Random(seed)
    return [
        canonical(
            UsageEvent(
                call_id=f"req_{number:07d}",
                source=order.choice(["cli", "otlp"]),
                org_id="o",
                occurred_at=NOON - timedelta(minutes=number % 50_000),
                session_id=f"s{number % 97}",
                user_id=f"u{number % 13}",
                provider="anthropic",
                model="claude-opus-5-5",
                input_tokens=number % 101,
                output_tokens=order.choice([number % 1000, 1 + number % 1000]),
                cache_write_1h_tokens=number % 77,
            )
        )
        for number in (n if n < calls else order.randrange(calls) for n in range(count))
    ]


@pytest.mark.parametrize("point", ["before_insert", "after_insert", "after_seen", "after_commit"])
async def test_kill_9_at_a_named_point_loses_and_doubles_nothing(point, aggregators, stored, traffic):
    """Small blocks first, then a block of production size; after each death other batch boundaries."""
    await traffic.send(events(1500, calls=1000))
    first = aggregators.start(wait=False, batch_max_records=100, failpoint=f"{point}:kill@5")
    await until(lambda: not first.alive, within_s=60, what="the failpoint")
    second = aggregators.start(batch_max_records=170)
    await traffic.exact(stored)
    second.kill()
    await traffic.send(events(30_000, calls=25_000, seed=2))
    third = aggregators.start(
        wait=False, batch_max_records=50_000, batch_linger_ms=1500, failpoint=f"{point}:kill@2"
    )
    await until(lambda: not third.alive, within_s=60, what="the failpoint")
    aggregators.start(batch_max_records=7_000)
    await traffic.exact(stored, within_s=120)


async def test_a_zombie_that_wakes_up_after_its_partitions_were_taken_changes_nothing(
    aggregators, stored, traffic
):
    # One partition only: frozen while another one claims, it would hold SQLite's one lock and stop everybody.
    # (PostgreSQL locks rows, which is why aggregators on several machines use it.)
    await traffic.send([e for e in events(60_000, calls=45_000) if partition_of(e.call_id.encode(), 12) == 0])
    zombie = aggregators.start(wait=False, batch_max_records=2000, failpoint="before_insert:stop")
    await until(lambda: stopped(zombie), within_s=60, what="the failpoint")
    aggregators.start(batch_max_records=1500)
    await traffic.exact(stored, within_s=120)
    before = await rows(stored, "SELECT count() AS n FROM ledger")
    zombie.resume()
    await traffic.send(events(5000, calls=5000, seed=3))
    await traffic.exact(stored, within_s=120)
    assert zombie.alive, "a zombie must find its way back into the group"
    assert (await rows(stored, "SELECT count() AS n FROM ledger"))[0]["n"] >= before[0]["n"]


async def test_a_rebalance_storm_delays_and_never_miscounts(aggregators, stored, traffic):
    order = random.Random(7)
    members = [aggregators.start(batch_max_records=500)]
    for turn in range(8):
        await traffic.send(events(2500, calls=2000, seed=turn))
        if len(members) < 3 and order.random() < 0.6:
            members.append(aggregators.start(wait=False, batch_max_records=300 + 100 * turn))
        else:
            leaver = members.pop(order.randrange(len(members)))
            leaver.kill() if order.random() < 0.5 else leaver.stop()
        await asyncio.sleep(1)
    members.append(aggregators.start())
    await traffic.exact(stored, within_s=120)


@pytest.mark.parametrize("fault", [{"code": 243}, {"readonly": True}, {"delay": 7}, {"drop_after": True}])
async def test_a_store_that_is_full_read_only_slow_or_cut_off_is_waited_for(
    fault, aggregators, stored, traffic, clickhouse_process
):
    member = aggregators.start(batch_max_records=2000, store_timeout_s=3)
    await traffic.send(events(4000, calls=3000))
    await traffic.exact(stored)
    clickhouse_process.fault(**fault)
    await traffic.send(events(12_000, calls=9000, seed=5))
    await until(lambda: "waiting_for_outage_to_end" in member.log_tail(), within_s=60, what="the fault")
    clickhouse_process.fault()
    await traffic.exact(stored, within_s=120)
    assert member.alive


async def test_a_store_that_dies_and_comes_back_finds_everything_waiting(
    aggregators, stored, traffic, clickhouse_process
):
    member = aggregators.start(batch_max_records=2000)
    await traffic.send(events(20_000, calls=15_000))
    clickhouse_process.kill()
    await traffic.send(events(5000, calls=20_000, seed=5))
    clickhouse_process.restart()
    await traffic.exact(stored, within_s=120)
    assert member.alive


async def test_a_broker_that_dies_and_comes_back_finds_everything_waiting(
    aggregators, stored, traffic, durable_broker
):
    member = aggregators.start(batch_max_records=2000)
    await traffic.send(events(20_000, calls=15_000))
    durable_broker.kill()
    durable_broker.restart()
    await traffic.send(events(5000, calls=20_000, seed=5))
    await traffic.exact(stored, within_s=120)
    assert member.alive


async def test_sigterm_finishes_the_batch_commits_and_leaves(aggregators, stored, traffic):
    member = aggregators.start(batch_max_records=1000)
    await traffic.send(events(10_000, calls=8000))
    member.stop()
    assert not member.alive
    aggregators.start()
    await traffic.exact(stored)
