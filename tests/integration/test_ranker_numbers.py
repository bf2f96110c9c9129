"""Rankings of a real store equal a plain Python count of its calls, in any zone, also after corrections."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.brokers import Broker
from tokentide_common.broker import Publisher, ensure_topics
from tokentide_common.metrics import Metrics
from tokentide_common.rankings import METRICS, SCOPES, latest_ranking_sql
from tokentide_common.store import Store, rows
from tokentide_ranker.periods import Period, span, touched
from tokentide_ranker.ranker import Ranker
from tokentide_ranker.totals import read_totals

COLUMNS = {
    "users": "user_id",
    "projects": "project",
    "machines": "machine_id",
    "models": "model",
    "teams": "team",
}
ORG = "org"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_call(at: datetime, **fields: Any) -> dict[str, Any]:
    return {
        "org_id": ORG, "call_id": uuid.uuid4().hex, "sign": 1,
        "occurred_at": at.isoformat(), "observed_at": at.isoformat(),
        "user_id": "ann", "project": "p", "machine_id": "m", "model": "opus", "team": "", "cost_nano": 10,
        "input_tokens": 1, "output_tokens": 2, "reasoning_tokens": 2, **fields,
    }  # fmt: skip


async def put(store: Store, calls: Iterable[dict[str, Any]]) -> None:
    await store.insert("ledger", "\n".join(map(json.dumps, calls)).encode())


def counted(calls: Iterable[dict[str, Any]], period: Period, zone: ZoneInfo) -> dict[Any, dict[str, int]]:
    """The oracle: every call by hand, by the local date of its own instant."""
    start, end = span(period, zone)
    sums: dict[Any, dict[str, list[int]]] = {s: defaultdict(lambda: [0, 0, 0]) for s in SCOPES}
    for call in calls:
        if start <= datetime.fromisoformat(call["occurred_at"]) < end:
            tokens = sum(v for k, v in call.items() if k.endswith("_tokens") and k != "reasoning_tokens")
            for scope in SCOPES:
                entry = sums[scope][call[COLUMNS[scope]]]
                for index, value in enumerate((call["cost_nano"], tokens, 1)):
                    entry[index] += call["sign"] * value
    return {
        (scope, metric): {entity: entry[i] for entity, entry in sums[scope].items() if entry[2] > 0}
        for scope in SCOPES
        for i, metric in enumerate(METRICS)
    }


async def latest(store: Store, kind: str, start: str, scope: str = "users", metric: str = "cost") -> Any:
    params = {
        "org_id": ORG, "period": kind, "period_start": start, "scope": scope, "metric": metric,
        "after": 0, "limit": 100,
    }  # fmt: skip
    return await rows(store, latest_ranking_sql(), params)


@pytest.fixture
async def ranker(store: Store, tansu: Broker) -> AsyncIterator[Ranker]:
    await ensure_topics(tansu.url, embedded=True)
    publisher = Publisher(tansu.url, deadline_s=10)
    yield Ranker(store, publisher, Metrics(), published_entries=100, now=lambda: NOW)
    await publisher.stop()


moments = st.datetimes(datetime(2026, 3, 27), datetime(2026, 4, 7)).map(
    lambda at: at.replace(tzinfo=UTC, microsecond=at.microsecond // 1000 * 1000)
)
calls = st.lists(
    st.builds(
        a_call,
        moments,
        user_id=st.sampled_from(["ann", "bob", "", "😀"]),
        project=st.sampled_from(["p", "q"]),
        team=st.sampled_from(["", "red"]),
        cost_nano=st.integers(0, 3) | st.integers(0, 2**50),
        cache_read_tokens=st.integers(0, 2**40),
        cache_write_1h_tokens=st.integers(0, 9),
    ),
    max_size=20,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=calls,
    taken_back=st.integers(0, 5),
    zone=st.sampled_from(
        ["UTC", "Asia/Kathmandu", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"]
    ).map(ZoneInfo),
    day=st.dates(date(2026, 3, 28), date(2026, 4, 6)),
)
async def test_totals_equal_a_count_by_hand_in_any_zone_and_on_days_when_clocks_change(
    store: Store, calls: list[dict[str, Any]], taken_back: int, zone: ZoneInfo, day: date
) -> None:
    await store.command("TRUNCATE TABLE usage_day")
    await store.command("TRUNCATE TABLE usage_15m")
    everything = [*calls, *({**call, "sign": -1} for call in calls[:taken_back])]
    if everything:
        await put(store, everything)
    for period in touched([day], zone):
        assert await read_totals(store, ORG, period, zone) == counted(everything, period, zone), period


async def test_a_ranking_has_ranks_ties_percentiles_shares_and_movement(store: Store, ranker: Ranker) -> None:
    sunday = datetime(2026, 11, 22, 9, tzinfo=UTC)
    saturday = sunday - timedelta(days=1)
    await put(
        store, [a_call(saturday, user_id="ann", cost_nano=1), a_call(saturday, user_id="bob", cost_nano=2)]
    )
    await put(
        store,
        [
            a_call(sunday, user_id="ann", cost_nano=60),
            a_call(sunday, user_id="bob", cost_nano=20),
            a_call(sunday, user_id="cat", cost_nano=20),
            a_call(sunday, user_id="dan", cost_nano=0),
        ],
    )
    await ranker.rank(ORG, ZoneInfo("UTC"), touched([sunday.date()], ZoneInfo("UTC")), fence=1, sequence=1)
    fields = ("entity", "value", "rank", "previous_rank", "movement", "percentile", "share")
    found = [tuple(row[f] for f in fields) for row in await latest(store, "day", "2026-11-22")]
    assert found == [
        ("ann", 60, 1, 2, 1, 100, 0.6),
        ("bob", 20, 2, 1, -1, pytest.approx(100 / 3), 0.2),
        ("cat", 20, 2, None, None, pytest.approx(100 / 3), 0.2),
        ("dan", 0, 4, None, None, 0, 0),
    ]


async def test_late_data_changes_a_past_ranking_and_the_movement_in_the_next_one(
    store: Store, ranker: Ranker
) -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    monday = datetime(2026, 11, 16, 6, tzinfo=UTC)
    tuesday = monday + timedelta(days=1)
    await put(store, [a_call(monday, user_id="ann", cost_nano=5), a_call(monday, user_id="bob", cost_nano=3)])
    await put(store, [a_call(tuesday, user_id="bob", cost_nano=9)])
    await ranker.rank(ORG, zone, touched([monday.date(), tuesday.date()], zone), fence=1, sequence=1)
    assert (await latest(store, "day", "2026-11-17"))[0]["previous_rank"] == 2

    # An upgrade finds that ann's call was cat's: ann leaves the ranking, and bob is now first on Monday.
    taken = a_call(monday, user_id="ann", cost_nano=5)
    await put(store, [{**taken, "sign": -1}, {**taken, "user_id": "cat", "cost_nano": 1}])
    await ranker.rank(ORG, zone, touched([monday.date()], zone), fence=1, sequence=2)

    assert [r["entity"] for r in await latest(store, "day", "2026-11-16")] == ["bob", "cat"]
    assert (await latest(store, "day", "2026-11-17"))[0]["previous_rank"] == 1


async def test_a_period_that_lost_all_its_calls_has_an_empty_ranking(store: Store, ranker: Ranker) -> None:
    call = a_call(datetime(2026, 11, 16, 6, tzinfo=UTC))
    periods = touched([date(2026, 11, 16)], ZoneInfo("UTC"))
    await put(store, [call])
    await ranker.rank(ORG, ZoneInfo("UTC"), periods, fence=1, sequence=1)
    assert len(await latest(store, "week", "2026-11-16")) == 1
    await put(store, [{**call, "sign": -1}])
    await ranker.rank(ORG, ZoneInfo("UTC"), periods, fence=1, sequence=2)
    assert await latest(store, "week", "2026-11-16") == []


async def test_a_lower_fence_never_shows_however_late_it_writes(store: Store, ranker: Ranker) -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    periods = touched([at.date()], ZoneInfo("UTC"))
    await put(store, [a_call(at, cost_nano=1)])
    await ranker.rank(ORG, ZoneInfo("UTC"), periods, fence=2, sequence=1)
    await put(store, [a_call(at, cost_nano=1)])
    await ranker.rank(ORG, ZoneInfo("UTC"), periods, fence=1, sequence=99)
    assert [(r["value"], r["fence"]) for r in await latest(store, "day", "2026-11-22")] == [(1, 2)]
    await store.command("OPTIMIZE TABLE rankings FINAL")
    assert [(r["value"], r["fence"]) for r in await latest(store, "day", "2026-11-22")] == [(1, 2)]


async def test_ten_thousand_entities_are_ranked_and_read_in_pages(store: Store, ranker: Ranker) -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    await put(store, [a_call(at, user_id=f"u{n:05}", cost_nano=n) for n in range(10_000)])
    await ranker.rank(ORG, ZoneInfo("UTC"), touched([at.date()], ZoneInfo("UTC")), fence=1, sequence=1)
    page = await rows(
        store,
        latest_ranking_sql(),
        {"org_id": ORG, "period": "all", "period_start": "1970-01-01", "scope": "users", "metric": "cost",
         "after": 9_997, "limit": 50},
    )  # fmt: skip
    assert [(r["entity"], r["rank"]) for r in page] == [
        ("u00002", 9998),
        ("u00001", 9999),
        ("u00000", 10_000),
    ]
