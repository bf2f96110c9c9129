"""What is kept of sessions by the hour: what was counted before, and what the ledger says since."""

from __future__ import annotations

from datetime import UTC, datetime

from infra import query_oracle as oracle
from infra.counting import SUMS
from infra.earlier_store import as_before
from infra.ledger_rows import call, insert_calls, insert_rows, taken_back, upgrade
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import rows

_NAME = "0020_session_hours.sql"
_AT = datetime(2026, 11, 20, 12, 34, 56, 789_000, tzinfo=UTC)
_SUMS = ", ".join(f"sum({name}) AS s_{name}" for name in SUMS)
_TOLD = (
    f"SELECT org_id, bucket, session_key, session_id, user_id, {_SUMS},"
    " sumMap(whoMap.who, whoMap.calls) AS who, sumMap(momentsMap.into_ms, momentsMap.calls) AS moments"
    " FROM usage_session_hour GROUP BY ALL HAVING sum(calls) != 0 ORDER BY ALL"
)


async def told(store):
    """Return what is kept of each session with live calls, put together."""
    return await rows(store, _TOLD)


async def test_what_was_counted_before_is_told_as_the_view_tells_it(store, empty_store, monkeypatch):
    await oracle.fill(store, seed=5, zone="Europe/Berlin", size=80)
    by_view = await told(store)
    assert {row["session_id"] for row in by_view} == {"", "s1", "s2", "s3", "s\\4"}
    await as_before(empty_store, monkeypatch, _NAME)
    await oracle.fill(empty_store, seed=5, zone="Europe/Berlin", size=80)
    assert (await migrate(empty_store))[0] == _NAME
    assert await told(empty_store) == by_view
    # Another aggregator that looked before this one had recorded it.
    await empty_store.command(f"DELETE FROM schema_migrations WHERE name = '{_NAME}'")
    await migrate(empty_store)
    assert await told(empty_store) == by_view


async def test_calls_that_were_deleted_are_in_the_first_hour_of_their_day(empty_store, monkeypatch):
    await as_before(empty_store, monkeypatch, _NAME)
    kept = call(session_id="s1", user_id="u", occurred_at=_AT, output_tokens=3, cost_nano=5)
    await insert_calls(empty_store, [call(session_id="s1", user_id="u", occurred_at=_AT, output_tokens=4)])
    await empty_store.command("TRUNCATE TABLE ledger")
    await insert_calls(empty_store, [kept])
    await migrate(empty_store)
    found = await rows(
        empty_store,
        "SELECT toHour(bucket) AS hour, calls, output_tokens, cost_nano, momentsMap.into_ms AS at"
        " FROM usage_session_hour ORDER BY hour",
    )
    assert found == [
        {"hour": 0, "calls": 1, "output_tokens": 4, "cost_nano": 0, "at": []},
        {"hour": 12, "calls": 1, "output_tokens": 3, "cost_nano": 5, "at": [2_096_789]},
    ]


async def test_who_starts_later_adds_nothing_to_what_is_counted_by_then(store):
    await insert_calls(store, [call(session_id="s")])
    by_view = await told(store)
    (statements,) = [statements for name, statements in migrations() if name == _NAME]
    for statement in statements:
        await store.command(statement)
    assert await told(store) == by_view


async def test_an_upgrade_moves_its_session_to_another_hour_and_other_partakers(store):
    old = call(session_id="s", machine_id="m1", occurred_at=_AT)
    await insert_calls(store, [old])
    earlier = _AT.replace(hour=9, minute=5, second=0, microsecond=0)
    await upgrade(store, old, {**old, "occurred_at": earlier, "machine_id": "m2"})
    (now,) = await told(store)
    who = '["","m2","","","","cli"]'
    assert (now["bucket"], now["who"], now["moments"]) == (
        "2026-11-20T09:00:00Z", [[who], [1]], [[300_000], [1]],
    )  # fmt: skip


async def test_a_change_of_partakers_alone_waits_for_its_call(store):
    """All its sums are none: the engine may merge it with others before it merges it with the call."""
    old = call(session_id="s", user_id="u", model="m", occurred_at=_AT, output_tokens=7)
    new = {**old, "sources": ["cli", "otlp"], "version": 2}
    await insert_rows(store, [taken_back(old), new])
    await insert_calls(store, [call(session_id="other", occurred_at=_AT)])
    await store.command("OPTIMIZE TABLE usage_session_hour FINAL")
    await insert_rows(store, [old])
    for _ in range(2):
        (now,) = [row for row in await told(store) if row["session_id"] == "s"]
        assert (now["s_calls"], now["s_output_tokens"]) == (1, 7)
        assert now["who"] == [['["u","","","","m","cli+otlp"]'], [1]]
        await store.command("OPTIMIZE TABLE usage_session_hour FINAL")


async def test_calls_without_a_session_are_counted_and_not_listed(store):
    await insert_calls(store, [call(user_id="u", occurred_at=_AT) for _ in range(3)])
    (row,) = await rows(
        store, "SELECT session_key, calls, whoMap.who AS w, momentsMap.calls AS m FROM usage_session_hour"
    )
    assert row == {"session_key": 0, "calls": 3, "w": [], "m": []}
