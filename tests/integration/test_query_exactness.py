"""The query API against an oracle that adds up plain calls: any question, any zone, upgrades included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import query_oracle as oracle
from infra.ledger_rows import call, insert_calls, upgrade
from infra.query_client import Caller, query_api
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, connect

FILTERS = {
    "user_id": ["u1", "u'3", ""],
    "model": ["claude-opus-5"],
    "not_model": ["gpt-x"],
    "project": ["p,two"],
    "client": ["codex"],
    "session_id": ["s1", "s\\4"],
    "status": ["error", "aborted"],
    "source": ["otlp"],
    "is_sidechain": [True],
    "http_status": [529],
    "not_team": [""],
    "tag.env": ["prod", "dev"],
    "not_tag.a b": ["c"],
    "agent": ["a1"],
}
DIMENSIONS = (
    "model", "user_id", "project", "session_id", "git_branch", "tag.env", "http_status", "is_sidechain",
    "source", "agent", "team", "client",
)  # fmt: skip
# Every example asks the same stored calls: the fixtures are meant to be shared between examples.
many = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
moments = st.integers(0, 320 * 86_400_000).map(
    lambda ms: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
aligned = moments.map(lambda t: t.replace(minute=t.minute // 15 * 15, second=0, microsecond=0))
periods = st.tuples(moments | aligned, moments | aligned).map(sorted).filter(lambda p: p[0] < p[1])
filters = st.lists(st.sampled_from(sorted(FILTERS)), max_size=2, unique=True)
groupings = st.lists(st.sampled_from(DIMENSIONS), max_size=2, unique=True)


in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(oracle.ZONES))
async def filled(request, chdb_directory, tmp_path_factory):
    """One store for each zone, which all questions share."""
    database = f"exact_{len(request.param)}"
    store = Store(f"chdb://{chdb_directory}?database={database}")
    await migrate(store)
    live = await oracle.fill(store, seed=len(request.param), zone=request.param)
    async with query_api(store, tmp_path_factory.mktemp(database)) as api:
        yield api, live, request.param
    await store.close()
    client = connect(f"chdb://{chdb_directory}", 30)
    client.command(f"DROP DATABASE {database}")
    client.close()


def query(period: tuple[datetime, datetime], chosen: list[str], **more: Any) -> str:
    pairs = [("from", period[0].isoformat()), ("to", period[1].isoformat())]
    pairs += [(name, str(v).lower() if isinstance(v, bool) else v) for name in chosen for v in FILTERS[name]]
    return urlencode([*pairs, *more.items()])


def expected(live, period, chosen: list[str], org: str = "org_a"):
    return oracle.within(live, org, *period, **{name: FILTERS[name] for name in chosen})


@in_one_loop
@many
@given(period=periods, chosen=filters)
async def test_a_summary_is_the_sum_of_the_live_calls_whatever_the_period_and_the_filters(
    filled, period, chosen
):
    api, live, _ = filled
    calls = expected(live, period, chosen)
    found = await api.json(f"/usage/summary?{query(period, chosen)}")
    assert oracle.answered(found) == oracle.measures(calls)
    for field, name in (
        ("users", "user_id"), ("sessions", "session_id"), ("machines", "machine_id"), ("projects", "project"),
    ):  # fmt: skip
        assert found[field] == len({c[name] for c in calls} - {""}), field
    for field in ("duration_ms", "ttft_ms"):
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            exact = oracle.quantile([c[field] for c in calls], q)
            assert found[field][name] == (exact and pytest.approx(exact, rel=0.01)), (field, name)


@in_one_loop
@settings(many, max_examples=25)
@given(
    period=periods,
    chosen=filters,
    bucket=st.sampled_from(["15m", "hour", "day", "week", "month", "year"]),
    change=st.sampled_from([None, 0, -1]),
)
async def test_a_series_puts_each_call_in_the_bucket_that_the_wall_clock_shows(
    filled, period, chosen, bucket, change
):
    api, live, zone_name = filled
    zone = ZoneInfo(zone_name)
    longest = timedelta(days=9 if bucket == "15m" else 40 if bucket == "hour" else 400)
    if change is not None:
        day = datetime.fromisoformat(oracle.ZONES[zone_name][change]).replace(tzinfo=zone)
        period = day - timedelta(days=1), day + timedelta(days=2)
    period = period[0], min(period[1], period[0] + longest)
    calls = expected(live, period, chosen)
    found = await api.json(f"/usage/timeseries?{query(period, chosen, tz=zone_name, bucket=bucket)}")
    (series,) = found["series"]
    by_label = oracle.grouped(calls, lambda c: oracle.bucket_label(c["occurred_at"], bucket, zone))
    starts = [datetime.fromisoformat(p["start"]) for p in series["points"]]
    labels = [oracle.bucket_label(start, bucket, zone) for start in starts]
    assert len(set(labels)) == len(labels)
    assert set(by_label) <= set(labels)
    assert starts == sorted(starts)
    assert starts[0] <= period[0] < period[1]
    assert starts[-1] < period[1]
    for label, point in zip(labels, series["points"], strict=True):
        assert oracle.answered(point) == oracle.measures(by_label.get(label, [])), point["start"]


@in_one_loop
@settings(many, max_examples=15)
@given(period=periods, chosen=filters, dimensions=groupings, bucket=st.sampled_from(["day", "month"]))
async def test_groups_of_a_series_and_rows_of_a_breakdown_add_up_to_the_summary(
    filled, period, chosen, dimensions, bucket
):
    api, live, zone_name = filled
    calls = expected(live, period, chosen)
    groups = oracle.grouped(calls, lambda c: tuple(oracle.value_of(c, d) for d in dimensions))
    asked = query(period, chosen, tz=zone_name, bucket=bucket, group_by=",".join(dimensions))
    found = await api.json(f"/usage/timeseries?{asked}")
    sums = {}
    for series in found["series"]:
        points = [oracle.answered(p) for p in series["points"]]
        sums[tuple(series["key"].values())] = {n: sum(p[n] for p in points) for n in points[0]}
    assert sums == {key: oracle.measures(group) for key, group in groups.items()} or (
        not dimensions and not calls
    )
    if dimensions:
        await check_breakdown(api, period, chosen, dimensions, groups, calls)


async def check_breakdown(api: Caller, period, chosen, dimensions, groups, calls):
    for metric, name in (("cost", "cost_usd"), ("tokens", "total_tokens"), ("errors", "errors")):
        asked = query(period, chosen, by=",".join(dimensions), metric=metric, limit=3)
        found = await api.json(f"/usage/breakdown?{asked}")
        keys = [tuple(row["key"].values()) for row in found["rows"]]
        exact = {key: oracle.measures(group) for key, group in groups.items()}
        best = sorted(exact.values(), key=lambda m: -m[name])[:3]
        assert [exact[key][name] for key in keys] == [m[name] for m in best]
        for key, row in zip(keys, found["rows"], strict=True):
            assert oracle.answered(row) == exact[key]
        rest = [c for key, group in groups.items() if key not in keys for c in group]
        assert oracle.answered(found["other"]) == oracle.measures(rest)
        assert found["other"]["groups"] == len(groups) - len(keys)
        whole = oracle.measures(calls)[name]
        for row in [*found["rows"], found["other"]]:
            share = float(Decimal(row[name]) / Decimal(whole)) if whole else 0
            assert row["share"] == pytest.approx(share, abs=1e-6)


async def test_a_call_that_moved_leaves_nothing_behind(store, tmp_path):
    """An upgrade may change user, day and money: the old group, day and user are gone, not zero."""
    old = call(user_id="was", session_id="s", model="m", cost_nano=5, project="p")
    await insert_calls(store, [old])
    earlier = old["occurred_at"] - timedelta(days=2)
    await upgrade(store, old, {**old, "user_id": "is", "occurred_at": earlier, "cost_nano": 7, "project": ""})
    async with query_api(store, tmp_path) as api:
        found = await api.json("/usage/breakdown?by=user_id")
        assert [row["key"]["user_id"] for row in found["rows"]] == ["is"]
        summary = await api.json("/usage/summary")
        assert (summary["users"], summary["projects"], summary["cost_usd"]) == (1, 0, "0.000000007")
        days = (await api.json("/usage/timeseries?from=5d&bucket=day&group_by=user_id"))["series"]
        assert [s["key"]["user_id"] for s in days] == ["is"]
        assert {p["start"][:10]: p["calls"] for p in days[0]["points"]} == {
            "2026-11-18": 1, "2026-11-19": 0, "2026-11-20": 0, "2026-11-21": 0, "2026-11-22": 0,
        }  # fmt: skip
        assert [c["user_id"] for c in (await api.json("/calls"))["items"]] == ["is"]
