"""The digests of users, machines and projects hold what was counted before there were any, and once."""

from __future__ import annotations

import pytest

from infra import query_oracle as oracle
from infra.earlier_store import as_before
from infra.ledger_rows import call, insert_calls
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import rows

_NAMES = ["0017_digests.sql", "0018_month_digests.sql"]
_LIVE = "GROUP BY ALL HAVING n != 0 ORDER BY ALL"
_DAYS = (
    "SELECT org_id, what, toDate(d) AS day, digest, sum(c) AS n FROM usage_month_digest"
    " ARRAY JOIN daysMap.day AS d, daysMap.calls AS c"
)
_HOURS = "SELECT org_id, what, bucket, digest, sum(calls) AS n FROM usage_hour_digest"
_DAYS_OF_HOURS = (
    "SELECT org_id, what, toDate(bucket, 'UTC') AS day, digest, sum(calls) AS n FROM usage_hour_digest"
)


async def told(store):
    """Return the live days and hours."""
    return [await rows(store, f"{sql} {_LIVE}") for sql in (_DAYS, _HOURS)]


@pytest.mark.parametrize("first", range(len(_NAMES)))
async def test_what_was_counted_before_is_told_as_the_views_tell_it(store, empty_store, monkeypatch, first):
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=80)
    by_views = await told(store)
    assert {row["what"] for each in by_views for row in each} == {0, 1, 2}
    await as_before(empty_store, monkeypatch, _NAMES[first])
    await oracle.fill(empty_store, seed=5, zone="Europe/Berlin", size=80)
    assert [name for name in await migrate(empty_store) if name in _NAMES] == _NAMES[first:]
    assert await told(empty_store) == by_views
    # Another aggregator that looked before this one had recorded it.
    await empty_store.command(f"DELETE FROM schema_migrations WHERE name IN {tuple(_NAMES[first:])}")
    await migrate(empty_store)
    assert await told(empty_store) == by_views


async def test_days_of_a_month_are_what_its_hours_are(store):
    await oracle.fill(store, seed=6, zone="Asia/Kathmandu", size=80)
    await store.command("OPTIMIZE TABLE usage_month_digest FINAL")
    days = await rows(store, f"{_DAYS} {_LIVE}")
    assert days == await rows(store, f"{_DAYS_OF_HOURS} {_LIVE}")
    assert len(days) > len(await rows(store, "SELECT * FROM usage_month_digest")) > 0


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(user_id="u")])
    by_views = await told(store)
    for name, statements in migrations():
        for statement in statements if name in _NAMES else ():
            await store.command(statement)
    assert await told(store) == by_views


async def test_a_backfill_that_comes_again_adds_nothing_though_it_finds_fewer_rows(empty_store, monkeypatch):
    await as_before(empty_store, monkeypatch, _NAMES[1])
    # More than the engine puts into a chunk by itself.
    many = "SELECT 'org', 0, toDate('2026-03-01'), number + 1, 1 FROM numbers(150000)"
    await empty_store.command(f"INSERT INTO usage_day_digest {many}")
    await migrate(empty_store)
    counted = "SELECT count() AS digests, sum(arraySum(daysMap.calls)) AS calls FROM usage_month_digest"
    assert await rows(empty_store, counted) == [{"digests": 150_000, "calls": 150_000}]
    await empty_store.command("DELETE FROM usage_day_digest WHERE digest > 20000")
    await empty_store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAMES[1]}'")
    await migrate(empty_store)
    assert await rows(empty_store, counted) == [{"digests": 150_000, "calls": 150_000}]


def test_what_a_migration_puts_into_a_table_comes_as_one_chunk():
    filled = [each for _, own in migrations() for each in own if "insert_deduplication_token" in each]
    assert len(filled) > 8
    for statement in filled:
        settings = statement.rpartition("SETTINGS")[2]
        for setting in ("max_block_size", "min_insert_block_size_rows"):
            assert f"{setting} = 100000000" in settings, statement[:80]
        for setting in ("max_threads", "max_insert_threads"):
            assert f"{setting} = 1," in settings, statement[:80]
