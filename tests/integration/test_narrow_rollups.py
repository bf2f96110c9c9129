"""The rollups of dashboards hold what was counted before there were any, and what the ledger says since."""

from __future__ import annotations

from infra import query_oracle as oracle
from infra.counting import rollup_sums
from infra.ledger_rows import call, insert_calls
from tokentide_common.migrate import migrate, migrations

_NAME = "0010_dashboards.sql"


async def forgotten(store):
    """Take the store back to before the rollup: what was counted is in the others alone."""
    await store.command("TRUNCATE TABLE usage_15m_model")
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")


async def test_what_was_counted_before_is_in_the_new_rollups_and_only_once(store):
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=80)
    await forgotten(store)
    assert await migrate(store) == [_NAME]
    said = await rollup_sums(store, "org_a")
    assert said["ledger"]["calls"] > 0
    assert said == dict.fromkeys(said, said["ledger"])
    # Another aggregator that looked before this one had recorded it.
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")
    await migrate(store)
    assert await rollup_sums(store, "org_a") == said


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(session_id="s")])
    (statements,) = [statements for name, statements in migrations() if name == _NAME]
    for statement in statements:
        await store.command(statement)
    assert (await rollup_sums(store, "org_a"))["usage_15m_model"]["calls"] == 1
