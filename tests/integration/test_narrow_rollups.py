"""The rollups of dashboards hold what was counted before there were any, and what the ledger says since."""

from __future__ import annotations

from datetime import UTC, datetime

from infra import query_oracle as oracle
from infra.counting import rollup_sums
from infra.ledger_rows import call, insert_calls, upgrade
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import rows

_NAME = "0010_dashboards.sql"
_SINCE = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_DIFFERENCES = """
SELECT org_id, bucket, session_key FROM (
  SELECT org_id, bucket, session_key, calls AS n, into_ms AS ms FROM usage_hour_session
  UNION ALL
  SELECT org_id, toStartOfHour(toDateTime(occurred_at, 'UTC')) AS bucket, session_key, -toInt64(sign) AS n,
    -sign * (toUnixTimestamp64Milli(occurred_at) % 3600000) AS ms FROM ledger WHERE same_as = ''
) GROUP BY org_id, bucket, session_key HAVING sum(n) != 0 OR sum(ms) != 0
"""


async def forgotten(store):
    """Take the store back to before the rollups: what was counted is in the others alone."""
    for table in ("usage_15m_model", "usage_hour_session"):
        await store.command(f"TRUNCATE TABLE {table}")
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")


async def test_what_was_counted_before_is_in_the_new_rollups_and_only_once(store):
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=80)
    await forgotten(store)
    assert await migrate(store) == [_NAME]
    said = await rollup_sums(store, "org_a")
    assert said["ledger"]["calls"] > 0
    assert said == dict.fromkeys(said, said["ledger"])
    assert await rows(store, _DIFFERENCES) == []
    # Another aggregator that looked before this one had recorded it.
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")
    await migrate(store)
    assert await rollup_sums(store, "org_a") == said
    assert await rows(store, _DIFFERENCES) == []


async def test_sessions_whose_calls_were_deleted_are_counted_in_their_day(store):
    await insert_calls(store, [call(session_id=f"s{n}", occurred_at=_SINCE) for n in range(3)])
    await store.command("TRUNCATE TABLE ledger")
    await forgotten(store)
    await migrate(store)
    found = await rows(store, "SELECT bucket, sum(calls) AS n FROM usage_hour_session GROUP BY bucket")
    assert found == [{"bucket": "2026-11-20T00:00:00Z", "n": 3}]


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(session_id="s")])
    (statements,) = [statements for name, statements in migrations() if name == _NAME]
    for statement in statements:
        await store.command(statement)
    assert (await rollup_sums(store, "org_a"))["usage_hour_session"]["calls"] == 1


async def test_an_upgrade_moves_its_session_to_another_hour(store):
    old = call(session_id="s", occurred_at=_SINCE)
    await insert_calls(store, [old])
    await upgrade(store, old, call(**{**old, "occurred_at": _SINCE.replace(hour=9, minute=5)}))
    live = "SELECT bucket, sum(into_ms) AS ms FROM usage_hour_session GROUP BY bucket HAVING sum(calls) > 0"
    assert await rows(store, live) == [{"bucket": "2026-11-20T09:00:00Z", "ms": 300_000}]
