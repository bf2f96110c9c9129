"""The digests of users, machines and projects hold what was counted before there were any, and once."""

from __future__ import annotations

from infra import query_oracle as oracle
from infra.ledger_rows import call, insert_calls
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import rows

_NAME = "0017_digests.sql"
_TABLES = {"usage_day_digest": "day", "usage_hour_digest": "bucket"}


async def told(store):
    """Return the live rows of each table."""
    return {
        table: await rows(
            store,
            f"SELECT org_id, what, {time}, digest, sum(calls) AS n FROM {table} GROUP BY ALL HAVING n != 0"
            " ORDER BY ALL",
        )
        for table, time in _TABLES.items()
    }


async def forgotten(store):
    """Take the store back to before the tables: what was counted is in the others alone."""
    for table in _TABLES:
        await store.command(f"TRUNCATE TABLE {table}")
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")


async def test_what_was_counted_before_is_told_as_the_views_tell_it(store):
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=80)
    by_views = await told(store)
    assert {row["what"] for table in by_views.values() for row in table} == {0, 1, 2}
    await forgotten(store)
    assert await migrate(store) == [_NAME]
    assert await told(store) == by_views
    # Another aggregator that looked before this one had recorded it.
    await store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")
    await migrate(store)
    assert await told(store) == by_views


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(user_id="u")])
    by_views = await told(store)
    (statements,) = [statements for name, statements in migrations() if name == _NAME]
    for statement in statements:
        await store.command(statement)
    assert await told(store) == by_views
