"""What a store from before reports had rollups of their own tells of the calls that it has counted."""

from __future__ import annotations

from uuid import uuid4

import pytest

from infra.ledger import ROLLUPS, block_of_calls, totals
from infra.ledger_rows import call, insert_calls
from tokentide_common import migrate as migrating
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import Store, rows

_WHO = "user_id, account_id, key_id, user_email, cost_center, identity_provider, team, department"
_NEW = ("usage_minute_model", "usage_day_person", "usage_day_price")
_LATER = (
    *("usage_day_minutes", "usage_day_model", "usage_session_hour"),
    *("usage_month_digest", "usage_hour_digest", "usage_hour_person"),
)
_PRICED = "team, department, client, provider, model, service_tier, speed, inference_geo"


async def test_calls_of_before_are_told_apart_by_new_columns_as_far_as_they_are_kept(
    empty_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = [each for each in migrations() if each[0] < "0011"]
    monkeypatch.setattr(migrating, "migrations", lambda: earlier)
    await migrate(empty_store)
    await empty_store.insert("ledger", block_of_calls(200))
    sizes = (0, 1, 200_000, 200_001, 1_000_000)
    known = {"user_id": "u", "user_email": "u@a.example", "cost_center": "cc", "key_id": "k", "team": "t"}
    await insert_calls(
        empty_store,
        [call(**known, model="m", service_tier="batch", input_tokens=size) for size in sizes],
    )
    gone = "occurred_at < '2026-10-01' AND user_id != 'u'"
    await empty_store.command(f"ALTER TABLE ledger DELETE WHERE {gone} SETTINGS mutations_sync = 2")
    before = await totals(empty_store, [name for name in ROLLUPS if name not in (*_NEW, *_LATER)])
    monkeypatch.undo()

    for _ in range(2):
        await migrate(empty_store)
    after = await totals(empty_store)

    assert {name: after[name] for name in before} == before
    assert {name: after[name] for name in _NEW} == dict.fromkeys(_NEW, before["usage_day"])
    assert {name: after[name] for name in _LATER} == dict.fromkeys(_LATER, before["usage_day"])
    # As the view makes them, of a minute that came twice too.
    for _ in range(2):
        await empty_store.insert("ledger", block_of_calls(1), token=str(uuid4()))
    each = "minutesMap.minute AS m, minutesMap.calls AS n, minutesMap.tokens AS k"
    sql = f"SELECT m, n, k FROM usage_day_minutes FINAL ARRAY JOIN {each} WHERE user_id = 'user-0'"
    told = await rows(empty_store, f"{sql} AND model = 'model-0' AND day = '2026-09-01'")
    assert told == [{"m": 600, "n": 3, "k": 0}]
    passed = await rows(
        empty_store,
        "SELECT prompt_over AS o, sum(calls) AS n FROM usage_day_price WHERE model = 'm' GROUP BY o",
    )
    assert {row["o"]: row["n"] for row in passed if row["n"]} == {0: 2, 199_999: 1, 200_000: 1, 524_288: 1}
    for table, keys in (("usage_day_person", _WHO), ("usage_day_price", _PRICED)):
        kept = f"SELECT toDate(occurred_at) AS d, {keys}, sum(sign) AS n FROM ledger GROUP BY ALL"
        told = f"SELECT day AS d, {keys}, sum(calls) AS n FROM {table} GROUP BY ALL HAVING n != 0"
        lost = await rows(empty_store, f"SELECT * FROM ({kept}) EXCEPT SELECT * FROM ({told})")
        assert [row for row in lost if row["d"] >= "2026-10-01"] == []
        (mine,) = await rows(empty_store, f"SELECT sum(n) AS n FROM ({told}) WHERE team = 't'")
        assert mine["n"] == len(sizes)
