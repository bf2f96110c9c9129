"""Hours of people: what was counted before there were any, and what is asked of both ends of a period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from infra import query_oracle as oracle
from infra.counting import SUMS, rollup_sums
from infra.earlier_store import as_before
from infra.ledger_rows import call, insert_calls
from infra.query_client import query_api
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import rows

_NAME = "0021_person_hours.sql"
_WHO = "user_id, model, account_id, key_id, user_email, cost_center, identity_provider, team, department"
_SUMS = ", ".join(f"sum({name}) AS s_{name}" for name in SUMS)
_TOLD = (
    f"SELECT org_id, bucket, {_WHO}, {_SUMS} FROM usage_hour_person"
    " GROUP BY ALL HAVING s_calls != 0 ORDER BY ALL"
)


async def told(store):
    """Return the live hours."""
    return await rows(store, _TOLD)


async def test_what_was_counted_before_is_told_as_the_view_tells_it(store, empty_store, monkeypatch):
    await oracle.fill(store, seed=5, zone="Asia/Kathmandu", size=80)
    by_view = await told(store)
    assert len(by_view) > 50
    await as_before(empty_store, monkeypatch, _NAME)
    await oracle.fill(empty_store, seed=5, zone="Asia/Kathmandu", size=80)
    assert _NAME in await migrate(empty_store)
    assert await told(empty_store) == by_view
    # Another aggregator that looked before this one had recorded it.
    await empty_store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")
    await migrate(empty_store)
    assert await told(empty_store) == by_view


async def test_of_calls_that_were_deleted_each_hour_keeps_its_sums(empty_store, monkeypatch):
    await as_before(empty_store, monkeypatch, _NAME)
    at = datetime(2026, 11, 20, 12, 34, tzinfo=UTC)
    known = {"user_id": "u", "model": "m", "user_email": "u@a.example", "cost_center": "cc", "team": "t"}
    await insert_calls(empty_store, [call(**known, occurred_at=at, output_tokens=4, cost_nano=7)])
    await empty_store.command("TRUNCATE TABLE ledger")
    await insert_calls(empty_store, [call(**known, occurred_at=at, output_tokens=3)])
    await migrate(empty_store)
    found = await rows(empty_store, "SELECT bucket, user_email, team, output_tokens FROM usage_hour_person")
    hour = {"bucket": "2026-11-20T12:00:00Z", "team": "t"}
    assert sorted(found, key=lambda row: row["output_tokens"]) == [
        {**hour, "user_email": "u@a.example", "output_tokens": 3},
        {**hour, "user_email": "", "output_tokens": 4},
    ]
    said = await rollup_sums(empty_store, "org_a")
    assert said["usage_hour_person"] == said["usage_15m"]


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(user_id="u")])
    by_view = await told(store)
    (statements,) = [statements for name, statements in migrations() if name == _NAME]
    for statement in statements:
        await store.command(statement)
    assert await told(store) == by_view


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu"])
async def test_periods_of_local_days_are_told_apart_by_what_hours_of_people_know(store, tmp_path, zone):
    live = await oracle.fill(store, seed=4, zone=zone, size=160)
    changed = datetime.fromisoformat(oracle.ZONES[zone][-1]).replace(tzinfo=oracle.ZoneInfo(zone))
    start, end = changed - timedelta(days=2), changed + timedelta(days=2)
    calls = oracle.within(live, "org_a", start, end)
    assert len(calls) > 10
    async with query_api(store, tmp_path) as api:
        for by in ("cost_center", "user_email", "user_id,model", "identity_provider,team"):
            names = by.split(",")
            groups = oracle.grouped(calls, lambda c, names=names: tuple(c.get(name, "") for name in names))
            query = urlencode({"from": start.isoformat(), "to": end.isoformat(), "by": by, "limit": 500})
            answer = await api.json(f"/usage/breakdown?{query}")
            found = {
                tuple(row["key"][name] for name in names): oracle.answered(row) for row in answer["rows"]
            }
            assert found == {key: oracle.measures(own) for key, own in groups.items()}, by
