"""The promise: whatever the order, the repeats, the splitting and the crashes, the numbers are the same."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.counting import ROLLUPS, Counter, expected_sums, live_rows, rollup_sums
from infra.crashes import Crash, crash_at
from infra.observations import NOON, observations
from infra.waiting import until
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.merge import canonical
from tokentide_common.store import Store, rows

FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
NUMBERS = itertools.count()
orders = st.randoms(use_true_random=False)
calls = st.sampled_from([f"req_{n}" for n in range(4)]).flatmap(lambda call: observations(call_id=call))


def of(org_id: str, events: list[UsageEvent]) -> list[UsageEvent]:
    return [msgspec.structs.replace(e, org_id=org_id) for e in events]


def without_org(row: dict[str, Any]) -> dict[str, Any]:
    said = json.loads(row["observations"] or "[]")
    return row | {"observations": [{k: v for k, v in o.items() if k != "org_id"} for o in said]}


def call(number: int, **fields: Any) -> UsageEvent:
    fields = {"model": "claude-opus-5-5", "provider": "anthropic", "input_tokens": number % 13} | fields
    at = NOON + timedelta(seconds=number * 37)
    return UsageEvent(call_id=f"req_{number:06d}", source="cli", org_id="o", occurred_at=at, **fields)


def events_of(counter: Counter) -> list[UsageEvent]:
    return [canonical(decode_wire_event(record.value)) for record in counter.log]


@FEW
@given(
    data=st.data(), events=st.lists(calls, min_size=1, max_size=8), random=st.randoms(use_true_random=False)
)
def test_any_order_repetition_and_splitting_gives_the_same_ledger_and_rollups(
    with_store, tmp_path, data, events, random
):
    # The same once more, seen by a door earlier or later: a repeat, or an earlier sight of the call.
    events = events + [
        canonical(msgspec.structs.replace(e, observed_at=NOON + timedelta(seconds=random.randrange(4))))
        for e in random.choices(events, k=len(events) // 2)
    ]
    again = events + random.choices(events, k=len(events) // 2)
    random.shuffle(again)
    cuts = [data.draw(st.integers(1, len(again)), label="batch") for _ in range(2)]

    async def work(store: Store) -> None:
        number = next(NUMBERS)
        plain, mixed = (Counter(store, tmp_path, f"{name}{number}") for name in ("plain", "mixed"))
        plain.append(of(f"plain{number}", events))
        await plain.count_all(len(events))
        mixed.append(of(f"mixed{number}", again))
        sizes = itertools.cycle(cuts)
        while mixed.committed < len(mixed.log):
            if random.random() < 0.3:
                mixed.restart()
            if random.random() < 0.5:
                await mixed.with_filter()
            outcome = await mixed.count(next(sizes), commit=random.random() < 0.7)
            expected = expected_sums(again[: outcome.end], mixed.price)
            said = await rollup_sums(store, f"mixed{number}")
            assert said == dict.fromkeys(said, expected)
        told = await live_rows(store, f"mixed{number}")
        assert list(map(without_org, told)) == list(
            map(without_org, await live_rows(store, f"plain{number}"))
        )
        plain.close()
        mixed.close()

    with_store(work)


@pytest.mark.parametrize("point", ["after_claim", "before_insert", "after_insert", "after_seen"])
@pytest.mark.parametrize("size", [7, 500, 20_000])
async def test_a_crash_at_any_point_is_completed_by_a_process_with_other_batch_sizes(
    store, tmp_path, point, size
):
    counter = Counter(store, tmp_path, "t")
    counter.append(call(n % (size * 2), output_tokens=n % 100) for n in range(size * 3))
    for attempt in range(3):
        counter.restart(crash_at(point))
        with pytest.raises(Crash):
            await counter.count(size + attempt)
        counter.restart()
        if attempt:
            await counter.with_filter()
        outcome = await counter.count(size * 2)
        said = await rollup_sums(store, "o")
        assert said == dict.fromkeys(said, expected_sums(events_of(counter)[: outcome.end], counter.price))
    counter.close()


async def test_a_stalled_twin_that_inserts_its_old_block_late_changes_nothing(store, tmp_path):
    owner, twin = Counter(store, tmp_path, "t"), Counter(store, tmp_path, "t")
    owner.append(call(n % 50, output_tokens=n) for n in range(400))
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
    said = await rollup_sums(store, "o")
    assert said == dict.fromkeys(said, expected_sums(events_of(owner), owner.price))
    owner.close()
    twin.close()


async def test_a_topic_made_anew_with_the_same_offsets_is_counted_and_not_taken_for_a_repeat(store, tmp_path):
    old = Counter(store, tmp_path, "t")
    old.append(call(n) for n in range(100))
    await old.count_all(100)
    new = Counter(store, tmp_path, "t")
    new.append(call(n) for n in range(100, 200))
    new.log = [record._replace(timestamp=record.timestamp + 86_400_000) for record in new.log]
    await new.count_all(100)
    assert (await rollup_sums(store, "o"))["usage_15m"]["calls"] == 200
    old.close()
    new.close()


async def test_a_history_pushed_again_is_known_by_the_index_alone_and_changes_nothing(store, tmp_path):
    counter = Counter(store, tmp_path, "t")
    history = [call(n % 3000, output_tokens=n % 7) for n in range(5000)]
    counter.append(history)
    await counter.count_all(5000)
    before = await rollup_sums(store, "o")
    counter.append(msgspec.structs.replace(e, observed_at=NOON + timedelta(days=3)) for e in history)
    counter.restart()
    await counter.with_filter()
    await store.command("TRUNCATE TABLE ledger")  # whoever looked up a row now would wait for it
    async with asyncio.timeout(60):
        while counter.committed < len(counter.log):
            outcome = await counter.count(1999)
            assert outcome.block.changes == []
    after = await rollup_sums(store, "o")
    assert {name: after[name] for name in ROLLUPS} == {name: before[name] for name in ROLLUPS}
    counter.close()


@pytest.mark.parametrize("size", [1, 300, 50_000])
async def test_a_block_that_reached_only_some_views_is_completed_and_counts_once(store, tmp_path, size):
    counter = Counter(store, tmp_path, "t")
    counter.append(call(n, output_tokens=n % 1000) for n in range(size))
    await store.command("CREATE TABLE elsewhere (calls Int64) ENGINE = MergeTree ORDER BY calls")
    await store.command(
        "CREATE MATERIALIZED VIEW broken TO elsewhere AS SELECT throwIf(sign = 1) AS calls FROM ledger"
    )
    counting = asyncio.create_task(counter.count(size))

    async def partly_there() -> bool:
        return bool((await rows(store, "SELECT count() AS n FROM ledger"))[0]["n"])

    await until(partly_there, within_s=60)
    await store.command("DROP VIEW broken")
    await counting
    said = await rollup_sums(store, "o")
    assert said == dict.fromkeys(said, expected_sums(events_of(counter), counter.price))
    counter.close()


async def test_of_a_call_that_only_grew_price_and_digest_alone_are_read_whoever_priced_it(store, tmp_path):
    counter = Counter(store, tmp_path, "t")
    counter.append(call(n, output_tokens=n + 1) for n in range(40))
    await counter.count_all(40)
    counter.restart(price=lambda e: e.output_tokens * 7)
    # Were they read, the rows that are taken back would name this project.
    await store.command("ALTER TABLE ledger UPDATE project = 'elsewhere' WHERE 1 SETTINGS mutations_sync = 2")
    counter.append(call(n, output_tokens=n + 9) for n in range(40))
    await counter.count_all(40)
    said = await rollup_sums(store, "o")
    assert said == dict.fromkeys(said, expected_sums(events_of(counter), counter.price))
    back = await rows(store, "SELECT output_tokens, project FROM ledger WHERE sign = -1 ORDER BY call_id")
    assert back == [{"output_tokens": n + 1, "project": ""} for n in range(40)]
    counter.close()
