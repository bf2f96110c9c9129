"""Two aggregators that meet the two sides of a link, and aggregators that are killed in between."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import timedelta
from typing import Any

import pytest

from infra.counting import live_rows, rollup_sums, sums_of
from infra.linked import Linked, truth
from infra.observations import NOON
from infra.waiting import until
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical


def call(call_id: str, **fields: Any) -> UsageEvent:
    fields = {"source": "cli", "org_id": "o", "client": "claude-code", "occurred_at": NOON, **fields}
    return canonical(UsageEvent(call_id=call_id, **fields))


def session(number: int) -> list[UsageEvent]:
    """A session in which telemetry names the person in one call, and names no request in another.

    One call has two ids; three calls, and a fourth under a derived id.
    """
    at = NOON - timedelta(minutes=number)
    common = {"session_id": f"s{number}", "model": "claude-opus-5-5", "occurred_at": at}
    email = f"person{number % 7}@example.com"
    telemetry = {**common, "source": "otlp", "input_tokens": 10 + number, "duration_ms": 900}
    return [
        call(f"req_{number}_a", **common, user_id="machine 7", input_tokens=3, output_tokens=5),
        call(f"req_{number}_b", **telemetry, user_email=email, user_id=email, output_tokens=7),
        call(f"req_{number}_c", **common, user_id="machine 7", input_tokens=10 + number, output_tokens=8),
        call(f"x_{number}_c", **telemetry, output_tokens=8),
        call(f"x_{number}_d", **telemetry, output_tokens=9),
        call(f"x_{number}_d", source="otlp", same_as=f"gemini_{number}", occurred_at=at),
    ]


def true_sums(sessions: int, price: Any) -> dict[str, int]:
    """Sums over all sessions, with the link that the aggregator has to find stated."""
    events = [event for number in range(sessions) for event in session(number)]
    found = [call(f"x_{n}_c", source="link", same_as=f"req_{n}_c") for n in range(sessions)]
    return sums_of(truth([*events, *found]).values(), price)


@pytest.mark.parametrize("attempt", range(3))
async def test_two_aggregators_that_meet_the_two_sides_at_the_same_time_do_not_miss_the_link(
    store, tmp_path, attempt
):
    linked = Linked(store, tmp_path, "t")
    logging, telling = linked.counters
    a, b, c, nameless, *_ = session(1)
    logging.append([a, c])
    telling.append([b, nameless])
    both_stored = threading.Barrier(2, timeout=60)

    def wait_for_the_other(point: str) -> None:
        if point == "after_seen":
            both_stored.wait()

    for counter in linked.counters:
        linked.restart(counter, wait_for_the_other)
    turns = [asyncio.to_thread(asyncio.run, linked.turn(counter, 2)) for counter in linked.counters]
    await asyncio.gather(*turns)
    for counter in linked.counters:
        linked.restart(counter)
    await linked.count_all()
    counted = [row for row in await live_rows(store, "o") if not row["same_as"]]
    assert {(row["call_id"], row["user_email"]) for row in counted} == {
        (call_id, "person1@example.com") for call_id in ("req_1_a", "req_1_b", "req_1_c")
    }
    linked.close()


@pytest.mark.parametrize("point", ["after_seen", "after_publish"])
async def test_kill_9_between_a_block_and_what_follows_from_it_loses_no_link(
    point, aggregators, stored, traffic
):
    sessions = 30
    events = [event for number in range(sessions) for event in session(number)]
    random.Random(point).shuffle(events)
    await traffic.send(events)
    first = aggregators.start(wait=False, batch_max_records=20, failpoint=f"{point}:kill@4")
    await until(lambda: not first.alive, within_s=60, what="the failpoint")
    second = aggregators.start(wait=False, batch_max_records=30, failpoint=f"{point}:kill@8")
    await until(lambda: not second.alive, within_s=60, what="the second failpoint")
    aggregators.start(wait=False, batch_max_records=25)
    aggregators.start(batch_max_records=25)
    expected = true_sums(sessions, traffic.price)

    async def exact() -> bool:
        said = await rollup_sums(stored, "o")
        return said == dict.fromkeys(said, expected)

    await until(exact, within_s=90, what=f"{expected['calls']} calls, each under one id")
    await until(traffic.no_lag, within_s=60, what="lag 0")
    assert await exact()
    counted = [row for row in await live_rows(stored, "o") if not row["same_as"]]
    people = {row["session_id"]: row["user_email"] for row in counted}
    assert {row["user_email"] for row in counted} == set(people.values())
    assert all(row["user_email"] == people[row["session_id"]] for row in counted)
    assert all(people.values())
