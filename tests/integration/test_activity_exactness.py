"""Activity is counted like calls: whatever the order, the repeats and the crashes, the numbers stay."""

from __future__ import annotations

import asyncio
import itertools
import threading
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.activity_facts import TABLES, FactCounter, by_quarter, fact, highest, rises, sums
from infra.crashes import Crash, crash_at
from infra.waiting import until
from tokentide_common.activity import ActivityFact, decode_fact
from tokentide_common.store import Store, rows

FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = itertools.count()


@st.composite
def facts(draw: st.DrawFn) -> ActivityFact:
    return fact(
        draw(st.sampled_from(["a", "b", "c"])),
        draw(st.sampled_from(["0", "1", "2.5", "7", "0.000000001", "123456789.123456789"])),
        draw(st.integers(0, 59)),
        user_id=draw(st.sampled_from(["", "u", "v"])),
        kind=draw(st.sampled_from(["", "added"])),
        session_id=draw(st.sampled_from(["", "s1", "s2"])),
    )


def given_to(counted: FactCounter) -> list[ActivityFact]:
    return [decode_fact(record.value) for record in counted.log]


async def assert_exact(store: Store, facts: list[ActivityFact], org_id: str = "o") -> None:
    """Ledger and rollups, in sum and per quarter, are what the facts alone amount to."""
    assert await sums(store, org_id) == dict.fromkeys(TABLES, highest(facts))
    assert await by_quarter(store, org_id) == rises(facts, org_id)


@FEW
@given(
    data=st.data(), said=st.lists(facts(), min_size=1, max_size=10), random=st.randoms(use_true_random=False)
)
def test_ledger_and_rollups_are_the_merged_series_at_every_step(with_store, tmp_path, data, said, random):
    again = said + random.choices(said, k=len(said) // 2)
    random.shuffle(again)
    cuts = itertools.cycle([data.draw(st.integers(1, len(again)), label="batch") for _ in range(2)])

    async def work(store: Store) -> None:
        org = f"o{next(NUMBERS)}"
        of_org = [msgspec.structs.replace(one, org_id=org) for one in again]
        counted = FactCounter(store, tmp_path, org)
        counted.append(of_org)
        while counted.committed < len(counted.log):
            if random.random() < 0.3:
                counted.restart()
            if random.random() < 0.5:
                await counted.with_filter()
            outcome = await counted.count(next(cuts), commit=random.random() < 0.7)
            await assert_exact(store, of_org[: outcome.end], org)
        counted.close()

    with_store(work)


def traffic(count: int) -> list[ActivityFact]:
    """Counters that rise in no order of time, each point in two places, and events between them."""
    points = [
        fact(f"counter {n % 7}", str(n), n * 17 % 240, user_id=f"u{n % 3}" if n % 5 else "")
        for n in range(count)
    ]
    events = [fact(f"event {n}", "1.5", n % 240, metric="prompts", session_id="s") for n in range(count)]
    return [one for pair in zip(points, events, reversed(points), strict=True) for one in pair]


@pytest.mark.parametrize("point", ["after_claim", "before_insert", "after_insert", "after_seen"])
@pytest.mark.parametrize("size", [3, 400])
async def test_a_crash_at_any_point_is_completed_by_a_process_with_other_batch_sizes(
    store, tmp_path, point, size
):
    counted = FactCounter(store, tmp_path, "t")
    counted.append(traffic(size * 2))
    for attempt in range(3):
        counted.restart(crash_at(point))
        with pytest.raises(Crash):
            await counted.count(size + attempt)
        counted.restart()
        if attempt:
            await counted.with_filter()
        outcome = await counted.count(size * 2)
        await assert_exact(store, given_to(counted)[: outcome.end])
    counted.close()


@pytest.mark.parametrize("point", ["before_insert", "after_insert", "after_seen"])
async def test_a_block_that_a_crash_left_behind_is_completed_without_its_records(store, tmp_path, point):
    counted = FactCounter(store, tmp_path, "t")
    counted.append(traffic(50))
    await counted.count(70)
    counted.restart(crash_at(point))
    with pytest.raises(Crash):
        await counted.count(60, keep=True)
    counted.restart()
    await counted.finish_kept()
    await assert_exact(store, given_to(counted)[:130])
    counted.close()


async def test_a_stalled_twin_that_writes_its_old_block_and_index_late_changes_nothing(store, tmp_path):
    owner, twin = FactCounter(store, tmp_path, "t"), FactCounter(store, tmp_path, "t")
    owner.append(traffic(150))
    twin.log = owner.log
    stalled, woken = threading.Event(), threading.Event()

    def stall(point: str) -> None:
        if point == "before_insert":
            stalled.set()
            assert woken.wait(200)

    twin.restart(stall)
    late = asyncio.create_task(asyncio.to_thread(asyncio.run, twin.count(100)))
    await asyncio.to_thread(stalled.wait, 120)
    await owner.count_all(60)
    woken.set()
    await late
    owner.append([*traffic(150), fact("counter 3", "1000", 500)])
    owner.restart()
    await owner.count_all(70)
    await assert_exact(store, given_to(owner))
    owner.close()
    twin.close()


async def test_everything_sent_again_changes_nothing(store, tmp_path):
    counted = FactCounter(store, tmp_path, "t")
    counted.append(traffic(200))
    await counted.count_all(1000)
    before = await rows(store, "SELECT count() AS n FROM activity")
    counted.append(reversed(given_to(counted)))
    counted.restart()
    await counted.with_filter()
    while counted.committed < len(counted.log):
        assert (await counted.count(77)).block.changes == []
    assert await rows(store, "SELECT count() AS n FROM activity") == before
    await assert_exact(store, given_to(counted))
    counted.close()


async def test_a_series_that_is_described_better_later_moves_as_a_whole(store, tmp_path):
    counted = FactCounter(store, tmp_path, "t")
    counted.append([fact(value="3"), fact(value="5", minutes=40)])
    await counted.count_all(2)
    counted.append([fact(value="5", minutes=40, user_id="ann", project="site")])
    await counted.count_all(1)
    await assert_exact(store, given_to(counted))
    sql = "SELECT user_id, project, sum(value) AS total FROM activity_15m GROUP BY ALL HAVING total != 0"
    assert await rows(store, sql) == [{"user_id": "ann", "project": "site", "total": "5"}]
    counted.close()


async def test_the_largest_and_the_smallest_amounts_stay_exact(store, tmp_path):
    amounts = ["999999999999999999.999999999", "0.000000001"]
    counted = FactCounter(store, tmp_path, "t")
    counted.append(fact(f"s{n}", amounts[n % 2], metric="client_cost_usd") for n in range(50))
    await counted.count_all(7)
    expected = sum(map(Decimal, amounts)) * 25
    assert await sums(store) == {table: {"client_cost_usd": expected} for table in TABLES}
    counted.close()


async def test_a_block_that_reached_only_some_views_is_completed_and_counts_once(store, tmp_path):
    counted = FactCounter(store, tmp_path, "t")
    counted.append(traffic(300))
    await store.command("CREATE TABLE elsewhere (n Int64) ENGINE = MergeTree ORDER BY n")
    await store.command(
        "CREATE MATERIALIZED VIEW broken TO elsewhere AS SELECT throwIf(sign = 1) AS n FROM activity"
    )
    counting = asyncio.create_task(counted.count(900))

    async def partly_there() -> bool:
        return bool((await rows(store, "SELECT count() AS n FROM activity"))[0]["n"])

    await until(partly_there, within_s=60)
    await store.command("DROP VIEW broken")
    await counting
    await assert_exact(store, given_to(counted))
    counted.close()
