"""Calls that are deleted for their age: sums stay exact, whatever comes late of them, no half is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from infra.counting import Counter, expected_sums, live_rows, rollup_sums
from infra.ledger_rows import call as row
from infra.ledger_rows import insert_calls
from infra.query_client import query_api
from tokentide_common.events import UsageEvent
from tokentide_common.kept_rows import KeptRows, keep_rows
from tokentide_common.merge import canonical
from tokentide_common.repricing import reprice_record
from tokentide_common.retention import TABLES, Kind
from tokentide_common.store import Store, rows

# The store deletes by its own clock.
NOW = datetime.now(UTC)
FOREVER: dict[Kind, tuple[str, ...]] = {"calls": (), "minutes": (), "activity": ()}


def call(number: int, *, days: int, **fields: Any) -> UsageEvent:
    fields = {"source": "cli", "org_id": "org_a", "model": "claude-opus-4-5", "output_tokens": 5, **fields}
    at = NOW - timedelta(days=days, minutes=number)
    return canonical(UsageEvent(call_id=f"req_{number:04d}", occurred_at=at, **fields))


def append(counter: Counter, events: Sequence[UsageEvent]) -> None:
    """Let events arrive now."""
    first = len(counter.log)
    counter.append(events)
    now_ms = int(NOW.timestamp() * 1000)
    counter.log[first:] = [each._replace(timestamp=now_ms + each.offset) for each in counter.log[first:]]


async def deleted(store: Store) -> None:
    """Let the store do what it does within hours."""
    for table, _ in TABLES.values():
        await store.command(f"OPTIMIZE TABLE {table} FINAL")


async def engines(store: Store) -> list[str]:
    sql = "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    mine = [table for table, _ in TABLES.values()]
    return [each["engine_full"] for each in await rows(store, sql) if each["name"] in mine]


async def test_sums_outlive_calls_and_whatever_comes_late_of_a_deleted_one_changes_nothing(store, tmp_path):
    wanted = {**FOREVER, "calls": ("60", "org_b=200"), "minutes": ("100",)}
    assert await keep_rows(store, wanted, NOW - timedelta(days=1)) == ["calls", "minutes"]
    told = await engines(store)
    assert await keep_rows(store, wanted, NOW) == []
    assert await engines(store) == told
    kept = KeptRows(store, lambda: NOW)
    await kept.refresh()
    counter = Counter(store, tmp_path, "t")
    counter.restart(is_gone=kept.is_gone)
    old = [call(n, days=150) for n in range(8)]
    events = [*old, call(8, days=61), call(9, days=59), call(10, days=1), call(11, days=150, org_id="org_b")]
    append(counter, events)
    await counter.count_all(5)
    before = await rollup_sums(store, "org_a")
    await deleted(store)
    assert [each["call_id"] for each in await live_rows(store, "org_a")] == [
        "req_0008",
        "req_0009",
        "req_0010",
    ]
    assert len(await live_rows(store, "org_b")) == 1
    # Nor in the copy that is ordered by person.
    copy = "mergeTreeProjection(currentDatabase(), 'ledger', 'by_user')"
    sql = f"SELECT org_id, count() AS n FROM {copy} GROUP BY org_id"
    assert {each["org_id"]: each["n"] for each in await rows(store, sql)} == {"org_a": 3, "org_b": 1}
    assert (await rollup_sums(store, "org_a"))["usage_day_minutes"]["calls"] == 3
    # To whom remembers the rows, too: a replay of the same block may be of one who does not.
    append(counter, [call(7, days=150, output_tokens=900), call(8, days=61, output_tokens=900)])
    assert (await counter.count(100)).block.changes == []
    # Repeats, more of the same call, another source, requests to price it anew; to whom remembers nothing.
    counter.restart(is_gone=kept.is_gone)
    late = [call(n, days=150, output_tokens=900) for n in range(4)]
    late += [call(4, days=150, source="otlp", user_email="a@b.example"), call(5, days=150), call(8, days=61)]
    append(counter, [*late, call(9, days=59, output_tokens=77)])
    for each in (old[6], events[9]):
        asked = reprice_record("org_a", each.call_id, each.occurred_at)
        counter.append(
            [msgspec.json.decode(asked.value or b"", type=UsageEvent)], headers=tuple(asked.headers)
        )
    await counter.count_all(100)
    said = await rollup_sums(store, "org_a")
    lasting = {name: sums for name, sums in said.items() if name not in ("ledger", "usage_day_minutes")}
    true = expected_sums(
        [*(e for e in events if e.org_id == "org_a"), call(9, days=59, output_tokens=77)], counter.price
    )
    assert lasting == dict.fromkeys(lasting, true)
    assert before["usage_day"]["calls"] == true["calls"] == 11
    counter.close()


async def test_what_is_half_deleted_is_not_shown_and_longer_settings_bring_nothing_back(store, tmp_path):
    await keep_rows(store, {**FOREVER, "calls": ("90",)}, NOW)
    old, new = (row(occurred_at=NOW - timedelta(days=days), output_tokens=5) for days in (95, 80))
    # The store has come no further than to the row that took this one back.
    await store.command("ALTER TABLE ledger REMOVE TTL")
    await insert_calls(store, [old, new])
    for now in (NOW, NOW + timedelta(days=1)):
        async with query_api(store, tmp_path / str(now.day), now=now) as api:
            listed = await api.json("/calls?from=200d")
            assert [each["call_id"] for each in listed["items"]] == [new["call_id"]]
            assert (await api.get(f"/calls/{old['call_id']}")).status_code == 404
            by_branch = await api.json("/usage/breakdown?from=200d&by=git_branch")
            assert [each["calls"] for each in by_branch["rows"]] == [1]
        assert await keep_rows(store, FOREVER, NOW) == (["calls"] if now == NOW else [])
    assert not any(" TTL " in engine for engine in await engines(store))
