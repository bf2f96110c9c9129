"""Rare faults, each of which once could count a call twice or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from infra.counting import ROLLUPS, Consumed, Counter, expected_sums, live_rows, rollup_sums
from infra.crashes import Crash, crash_at
from infra.observations import NOON
from tokentide_aggregator import processing
from tokentide_aggregator.fold import Waiting
from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.merge import canonical
from tokentide_common.repricing import reprice_record


def call(number: int, **fields: Any) -> UsageEvent:
    fields = {"model": "claude-opus-4-5", "provider": "anthropic", "output_tokens": number % 13} | fields
    at = NOON + timedelta(days=-(number % 90), seconds=number)
    return UsageEvent(call_id=f"req_{number:06d}", source="cli", org_id="o", occurred_at=at, **fields)


async def assert_exact(store, counter: Counter, before: Sequence[Consumed] = ()) -> None:
    records = [*before, *counter.log[: counter.committed]]
    events = [canonical(decode_wire_event(record.value)) for record in records]
    said = await rollup_sums(store, "o")
    assert said == dict.fromkeys(said, expected_sums(events, counter.price))


@pytest.mark.parametrize("point", ["before_insert", "after_insert", "after_seen"])
async def test_a_crash_with_a_broker_that_forgets_counts_what_is_sent_again_once(
    store, tmp_path, tansu, point
):
    await ensure_topics(tansu.url, embedded=True)
    publisher = Publisher(tansu.url, deadline_s=10)
    await publisher.start()
    counter = Counter(store, tmp_path, "t")
    counter.append(call(n, output_tokens=1) for n in range(50))
    await counter.count(50, keep=True)
    counter.append(call(n) for n in range(300))
    counter.restart(crash_at(point))
    with pytest.raises(Crash):
        await counter.count(300, keep=True)
    before = counter.log[:50]
    # Another topic of the same name: other arrival times, and the batches that its senders now make.
    counter.log = [
        record._replace(offset=offset, timestamp=record.timestamp + 86_400_000)
        for offset, record in enumerate(counter.log[50:])
    ]
    counter.committed = 0
    counter.restart(publisher=publisher)
    await counter.finish_kept()
    await counter.finish_kept()
    while counter.committed < len(counter.log):
        await counter.count(70, keep=True)
    await publisher.stop()
    await assert_exact(store, counter, before)
    counter.close()


@pytest.mark.parametrize("point", ["before_insert", "after_insert", "after_seen"])
async def test_a_call_priced_anew_stays_exact_through_a_crash_and_other_prices_at_the_replay(
    store, tmp_path, point
):
    counter = Counter(store, tmp_path, "t")
    calls = [call(n) for n in range(60)]
    counter.append(calls)
    await counter.count_all(60)
    asked = [reprice_record("o", e.call_id, e.occurred_at) for e in calls[::2] * 2]
    asked.append(reprice_record("o", "req_nobody_knows", NOON))
    for record in asked:
        counter.append([decode_wire_event(record.value or b"")], headers=tuple(record.headers))
    counter.append([call(2, output_tokens=900)])
    counter.restart(crash_at(point), price=lambda e: e.output_tokens * 5 or None)
    with pytest.raises(Crash):
        await counter.count(70, commit=False)
    counter.restart(price=lambda e: e.output_tokens * 7)
    await counter.count_all(70)
    said = await rollup_sums(store, "o")
    assert said["ledger"]["calls"] == 60
    assert said == dict.fromkeys(said, said["ledger"])
    live = {row["call_id"]: row for row in await live_rows(store, "o")}
    assert len(live) == 60
    once = 7 if point == "before_insert" else 5
    for n, e in enumerate(calls):
        output = 900 if n == 2 else e.output_tokens
        row = live[e.call_id]
        if n % 2 == 0 and n != 2:
            assert row["price_version"] == "other", "the row of whoever wrote first stands"
            assert row["cost_nano"] == output * once
        elif n != 2:
            assert row["price_version"] != "other"
    counter.close()


async def test_a_twin_stalled_until_the_store_forgot_its_token_looks_again_and_changes_nothing(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(processing, "LOOKUP_HOLDS_S", 0.2)
    for table in ("ledger", *ROLLUPS):
        await store.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 1")
    owner, twin = Counter(store, tmp_path, "t"), Counter(store, tmp_path, "t")
    owner.append(call(n % 50, output_tokens=n) for n in range(400))
    twin.log = owner.log
    stalled, woken = threading.Event(), threading.Event()

    def stall(point: str) -> None:
        if point == "before_insert" and not stalled.is_set():
            stalled.set()
            assert woken.wait(200)

    twin.restart(stall)
    late = asyncio.create_task(asyncio.to_thread(asyncio.run, twin.count(100)))
    await asyncio.to_thread(stalled.wait, 120)
    await owner.count_all(60)
    woken.set()
    await late
    await assert_exact(store, owner)
    owner.close()
    twin.close()


async def test_a_block_repeated_under_other_prices_is_taken_back_as_it_was_written(store, tmp_path):
    counter = Counter(store, tmp_path, "t")
    counter.append(call(n, output_tokens=5) for n in range(20))
    counter.restart(crash_at("after_insert"), price=lambda event: 1_000)
    with pytest.raises(Crash):
        await counter.count(20)
    counter.restart()
    await counter.count(20)
    counter.append(call(n, output_tokens=9) for n in range(20))
    await counter.count(20)
    await assert_exact(store, counter)
    counter.close()


async def test_who_waits_for_a_call_that_the_store_cannot_read_hears_that_it_is_rejected(store, tmp_path):
    await store.command("ALTER TABLE ledger DROP COLUMN git_branch")
    await store.command("ALTER TABLE ledger ADD COLUMN git_branch Int64")
    counter = Counter(store, tmp_path, "t")
    counter.append([call(0), call(1, git_branch="main"), call(2)])
    counter.log = [
        record._replace(headers=(("reply-to", b"me"), ("batch", b"b"), ("index", b"%d" % n)))
        for n, record in enumerate(counter.log)
    ]
    outcome = await counter.count(3)
    assert [(letter.offset, letter.reason) for letter in outcome.dead] == [(1, "block_rejected")]
    assert {v.waiting: v.verdict for v in outcome.block.verdicts} == {
        Waiting(b"me", "b", 0): "counted",
        Waiting(b"me", "b", 1): "rejected",
        Waiting(b"me", "b", 2): "counted",
    }
    assert len(await live_rows(store, "o")) == 2
    counter.close()
