"""One call under two ids, people, calls without ids: the same ledger and rollups, whatever came first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.counting import live_rows, rollup_sums, sums_of
from infra.linked import Linked, truth
from infra.observations import observations
from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows

FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
NUMBERS = itertools.count()
WHO = ("user_id", "user_email", "team", "account_id", "machine_id", "project")
# Two sessions, each with calls under ids of every kind.
IDS = {"s": ["req_0", "req_1", "x_0", "x_1", "m_0"], "t": ["req_5", "x_5"]}


@st.composite
def told(draw: st.DrawFn) -> UsageEvent:
    """An observation of a call, that may say which other call it is and who made it."""
    session = draw(st.sampled_from(sorted(IDS)))
    call_id, other = (draw(st.sampled_from(IDS[session])) for _ in range(2))
    event = draw(observations(call_id=call_id))
    source = "cli" if event.source == "link" else event.source
    same_as = other if source == "otlp" and draw(st.booleans()) else ""
    return canonical(
        msgspec.structs.replace(
            event,
            source=source,
            same_as=same_as,
            session_id=session,
            session_started_at=None,
            output_tokens=max(1, event.output_tokens),
        )
    )


@pytest.fixture
def linking(store_url: str) -> Any:
    """Run a coroutine with a migrated store, inside hypothesis, which knows no async tests."""

    def run(work: Callable[[Store], Awaitable[None]]) -> None:
        async def opened() -> None:
            store = Store(store_url)
            try:
                await migrate(store)
                await work(store)
            finally:
                await store.close()

        asyncio.run(opened())

    return run


async def assert_true(store: Store, org_id: str, events: list[UsageEvent], price: Any) -> None:
    records = truth(events)
    said = await rollup_sums(store, org_id)
    assert said == dict.fromkeys(said, sums_of(records.values(), price))
    counted = {row["call_id"]: row for row in await live_rows(store, org_id) if not row["same_as"]}
    assert {call: {n: row[n] for n in WHO} for call, row in counted.items()} == {
        call: {n: getattr(record, n) for n in WHO} for call, record in records.items()
    }
    people = (
        "SELECT user_id, sum(calls) AS n FROM usage_day WHERE org_id = {org:String} GROUP BY 1 HAVING n > 0"
    )
    by_user: dict[str, int] = {}
    for record in records.values():
        by_user[record.user_id] = by_user.get(record.user_id, 0) + 1
    found = await rows(store, f"{people} HAVING n > 0", {"org": org_id})
    assert {row["user_id"]: row["n"] for row in found} == by_user


@FEW
@given(events=st.lists(told(), min_size=1, max_size=10), random=st.randoms(use_true_random=False))
def test_any_order_splitting_repetition_and_crash_gives_the_same_calls_and_people(
    linking, tmp_path, events, random
):
    again = events + random.choices(events, k=len(events) // 2)
    random.shuffle(again)

    async def work(store: Store) -> None:
        org = f"o{next(NUMBERS)}"
        mixed = Linked(store, tmp_path, org)

        async def rollups_equal_the_ledger() -> None:
            said = await rollup_sums(store, org)
            assert said == dict.fromkeys(said, said["ledger"])

        mine = [msgspec.structs.replace(e, org_id=org) for e in again]
        mixed.append(mine)
        await mixed.count_somehow(random, rollups_equal_the_ledger)
        await assert_true(store, org, mine, mixed.counters[0].price)
        mixed.close()

    linking(work)
