"""Questions about activity: exact by metric, dimension and bucket, and never a second count of a call."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from infra.activity_rows import Row, activity, insert_activity
from infra.ledger_rows import call, insert_calls
from infra.query_client import query_api
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS, ACTIVITY_METRICS

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTH = "from=2026-11-01&to=2026-11-30"


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


def rows_of(seed: int, size: int = 150) -> list[Row]:
    """Return rows of two organisations, some of which take others back."""
    order = random.Random(seed)
    said = [
        activity(
            order.choice(["lines_of_code", "active_time_s", "edit_decisions"]),
            order.choice(["1", "2.5", "0.000000001", "1000000"]),
            org_id=order.choice(["org_a", "org_a", "org_b"]),
            bucket=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=15 * order.randrange(2880)),
            **{name: order.choice(["", "a", "b's"]) for name in ACTIVITY_DIMENSIONS},
        )
        for _ in range(size)
    ]
    return said + [{**row, "sign": -1} for row in order.sample(said, size // 5)]


def summed(rows: list[Row], *by: str) -> dict[tuple[str, ...], Decimal]:
    totals: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for row in rows:
        key = (row["metric"], *(row[name] for name in by))
        totals[key] += row["sign"] * Decimal(row["value"])
    return {key: value for key, value in totals.items() if value}


def told(answer: dict[str, Any]) -> dict[tuple[str, ...], Decimal]:
    return {(r["metric"], *r["key"].values()): Decimal(r["value"]) for r in answer["rows"]}


async def test_sums_by_any_dimensions_and_filters_are_those_of_the_rows(store, api):
    stored = rows_of(1)
    await insert_activity(store, stored)
    order = random.Random(2)
    names = sorted(ACTIVITY_DIMENSIONS)
    for _ in range(40):
        by, wanted = order.sample(names, order.randrange(3)), order.choice(names)
        start = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=order.randrange(10_000))
        end = start + timedelta(minutes=order.randrange(1, 40_000))
        value, exclude = order.choice(["", "a", "b's"]), order.choice(["", "not_"])
        mine = [
            row
            for row in stored
            if row["org_id"] == "org_a"
            and start <= row["bucket"] < end
            and (row[wanted] == value) != bool(exclude)
        ]
        period = f"from={start:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
        found = await api.json(f"/activity?{period}&by={','.join(by)}&{exclude}{wanted}={value}")
        assert told(found) == summed(mine, *by), (period, by, wanted, value, exclude)


async def test_tags_pick_exclude_and_group_as_they_do_calls(store, api):
    said = [
        ("1", {"env": "prod", "a b's": "x"}),
        ("2", {"env": "dev"}),
        ("4", {}),
    ]
    await insert_activity(store, [activity("commits", value, tags=tags) for value, tags in said])
    await insert_activity(store, [activity("commits", 8, org_id="org_b", tags={"env": "prod"})])

    async def asked(question: str) -> dict[tuple[str, ...], Decimal]:
        return told(await api.json(f"/activity?{MONTH}&{question}"))

    assert await asked("tag.env=prod") == {("commits",): 1}
    assert await asked("tag.env=prod&tag.env=dev") == {("commits",): 3}
    assert await asked("not_tag.env=prod") == {("commits",): 6}
    assert await asked("tag.env=") == {("commits",): 4}
    assert await asked(f"tag.{quote('a b' + chr(39) + 's')}=x") == {("commits",): 1}
    by_tag = {("commits", "prod"): 1, ("commits", "dev"): 2, ("commits", ""): 4}
    assert await asked("by=tag.env") == by_tag
    assert await asked("by=tag.env&bucket=day") == by_tag
    await insert_activity(store, [activity("client_tokens", 7, session_id="s", tags={"env": "prod"})])
    alone = await api.json(f"/activity/metrics-only?{MONTH}&tag.env=prod")
    assert (told(alone), alone["sessions"]) == ({("client_tokens",): 7}, 1)
    assert (await api.json(f"/activity/metrics-only?{MONTH}&tag.env=dev"))["rows"] == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("bucket", ["15m", "hour", "day", "week", "month"])
async def test_every_row_is_in_the_bucket_of_its_local_time(store, api, zone, bucket):
    stored = [row for row in rows_of(3) if row["org_id"] == "org_a"]
    await insert_activity(store, stored)
    found = await api.json(
        f"/activity?from=2026-10-01&to=2026-12-01&tz={zone}&bucket={bucket}&by=kind&metric=active_time_s"
    )
    starts = [datetime.fromisoformat(row["start"]) for row in found["rows"]]
    assert starts == sorted(starts)
    expected: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in stored:
        if row["metric"] == "active_time_s":
            start = bucket_of(row["bucket"].astimezone(ZoneInfo(zone)), bucket)
            expected[start, row["kind"]] += row["sign"] * Decimal(row["value"])
    said = {(r["start"], r["key"]["kind"]): Decimal(r["value"]) for r in found["rows"]}
    assert said == {key: value for key, value in expected.items() if value}


def bucket_of(local: datetime, bucket: str) -> str:
    """Return the start of a bucket by the wall clock."""
    if bucket == "15m":
        return local.isoformat()
    if bucket == "hour":
        return local.replace(minute=0).isoformat()
    day = local.replace(hour=0, minute=0)
    if bucket == "week":
        day -= timedelta(days=day.weekday())
    return (day.replace(day=1) if bucket == "month" else day).isoformat()


async def test_one_metric_or_several_are_answered_in_a_fixed_order(store, api):
    await insert_activity(store, [activity(metric, 3) for metric in reversed(ACTIVITY_METRICS)])
    everything = await api.json(f"/activity?{MONTH}")
    assert [row["metric"] for row in everything["rows"]] == list(ACTIVITY_METRICS)
    assert {row["value"] for row in everything["rows"]} == {"3"}
    assert {row["start"] for row in everything["rows"]} == {None}
    some = await api.json(f"/activity?{MONTH}&metric=commits&metric=sessions")
    assert [row["metric"] for row in some["rows"]] == ["sessions", "commits"]


async def test_tokens_that_are_a_part_of_others_are_not_added_to_them(store, api):
    kinds = {
        "input": 1,
        "output": 10,
        "reasoning": 4,
        "cache_read": 100,
        "prompt": 1000,
        "prompt_cached": 600,
    }
    await insert_activity(store, [activity("client_tokens", n, kind=kind) for kind, n in kinds.items()])
    whole = await api.json(f"/activity?{MONTH}&by=model")
    assert [row["value"] for row in whole["rows"]] == ["1111"]
    apart = await api.json(f"/activity?{MONTH}&by=kind")
    assert {row["key"]["kind"]: row["value"] for row in apart["rows"]} == {
        k: str(n) for k, n in kinds.items()
    }
    part = await api.json(f"/activity?{MONTH}&kind=reasoning")
    assert [row["value"] for row in part["rows"]] == ["4"]


async def test_the_other_formats_tell_the_same_exactly(store, api):
    await insert_activity(store, [activity("client_cost_usd", "123456789.123456789", model="m", user_id="u")])
    path = f"/activity?{MONTH}&by=model,user_id&bucket=day"
    row = {"metric": "client_cost_usd", "model": "m", "user_id": "u", "start": "2026-11-20T00:00:00+00:00"}
    (found,) = csv.DictReader(io.StringIO((await api.get(f"{path}&format=csv")).text))
    assert found == row | {"value": "123456789.123456789"}
    table = pq.read_table(io.BytesIO((await api.get(f"{path}&format=parquet")).content)).to_pylist()
    assert table == [
        row | {"start": datetime(2026, 11, 20, tzinfo=UTC), "value": Decimal("123456789.123456789")}
    ]


def own(session: str, value: object = 5, **fields: Any) -> Row:
    return activity("client_tokens", value, session_id=session, kind="input", user_id="u", **fields)


async def metrics_only(api: Any, query: str = "") -> tuple[int, str]:
    """Return how many sessions, and the tokens."""
    found = await api.json(f"/activity/metrics-only?{MONTH}{query}")
    assert found["basis"] == "client_metrics"
    return found["sessions"], next((r["value"] for r in found["rows"] if r["metric"] == "client_tokens"), "0")


async def test_only_sessions_without_any_call_are_told_by_their_metrics(store, api):
    await insert_activity(store, [own("with a call"), own("without", 7), own("without", 2), own("also", 1)])
    await insert_activity(store, [activity("lines_of_code", 9, session_id="without")])
    assert await metrics_only(api) == (3, "15")
    # A call of months before, by somebody else and of another model: it is a call of that session.
    await insert_calls(store, [call(session_id="with a call", occurred_at=datetime(2026, 2, 1, tzinfo=UTC))])
    assert await metrics_only(api) == (2, "10")
    assert await metrics_only(api, "&user_id=u&not_model=m") == (2, "10")
    assert await metrics_only(api, "&user_id=v") == (0, "0")
    await insert_calls(store, [call(session_id="without", org_id="org_b")])
    assert await metrics_only(api) == (2, "10"), "a call of another organisation is no call of ours"


async def test_a_session_whose_call_was_taken_back_has_none(store, api):
    await insert_activity(store, [own("s")])
    made = call(session_id="s")
    await insert_calls(store, [made])
    assert await metrics_only(api) == (0, "0")
    await insert_calls(store, [{**made, "sign": -1}])
    assert await metrics_only(api) == (1, "5")


async def test_without_a_session_metrics_stand_only_for_people_and_machines_without_calls(store, api):
    await insert_activity(store, [own("", 1), own("", 2) | {"user_id": ""}])
    await insert_activity(store, [own("", 10, machine_id="m1") | {"user_id": "v"}])
    assert await metrics_only(api) == (0, "11"), "of nobody knows whom nothing is told"
    await insert_calls(store, [call(user_id="u", session_id="x", occurred_at=NOON - timedelta(days=300))])
    assert await metrics_only(api) == (0, "11"), "a call of another time"
    await insert_calls(store, [call(user_id="u", session_id="x", occurred_at=NOON)])
    assert await metrics_only(api) == (0, "10")
    await insert_calls(store, [call(user_id="w", machine_id="m1", session_id="y")])
    assert await metrics_only(api) == (0, "0")


async def test_metrics_only_has_buckets_and_dimensions_and_no_parts(store, api):
    parts = {"input": 5, "reasoning": 3}
    of_session = {"session_id": "s", "user_id": "u", "model": "m"}
    await insert_activity(
        store, [activity("client_tokens", n, kind=kind, **of_session) for kind, n in parts.items()]
    )
    await insert_activity(store, [activity("client_cost_usd", "0.25", **of_session)])
    found = await api.json(f"/activity/metrics-only?{MONTH}&by=model&bucket=day")
    start = "2026-11-20T00:00:00+00:00"
    assert found["rows"] == [
        {"metric": "client_tokens", "key": {"model": "m"}, "start": start, "value": "5"},
        {"metric": "client_cost_usd", "key": {"model": "m"}, "start": start, "value": "0.25"},
    ]


@pytest.mark.parametrize(
    ("path", "code", "field"),
    [
        ("/activity?metric=calls", "invalid_parameter", "metric"),
        ("/activity?by=prompt_id", "unknown_dimension", "dimension"),
        ("/activity?by=model,model", "invalid_parameter", "by"),
        ("/activity?by=model,kind,tool", "invalid_parameter", "by"),
        ("/activity?bucket=minute", "invalid_parameter", "bucket"),
        ("/activity?prompt_id=x", "unknown_parameter", "prompt_id"),
        ("/activity?tag.=1", "unknown_dimension", "dimension"),
        ("/activity?limit=3", "unknown_parameter", "limit"),
        ("/activity/metrics-only?metric=commits", "unknown_parameter", "metric"),
        ("/activity?from=2026-11-02&to=2026-11-01", "invalid_period", "from"),
    ],
)
async def test_what_there_is_not_is_refused_by_name(api, path, code, field):
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert field in [error["field"] for error in answer.json()["errors"]]


async def test_a_period_shorter_than_a_quarter_of_an_hour_holds_the_quarter_that_begins_in_it(store, api):
    await insert_activity(store, [activity("commits", 1)])
    within = "from=2026-11-20T11:59:00Z&to=2026-11-20T12:01:00Z"
    assert told(await api.json(f"/activity?{within}")) == {("commits",): 1}
    after = "from=2026-11-20T12:01:00Z&to=2026-11-20T12:14:00Z"
    for path in ("/activity", "/activity/metrics-only"):
        assert (await api.json(f"{path}?{after}&bucket=15m"))["rows"] == []
