"""`/blocks`: accounts merged over machines, upgrades included, pinned to what the provider told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from infra.ledger_rows import call, insert_calls, upgrade
from infra.limit_rows import insert_limits
from infra.query_client import query_api
from tokentide_common.limit_facts import LimitFact

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)


async def test_the_calls_of_an_account_make_one_block_on_all_its_machines(store, tmp_path):
    at = NOW - timedelta(hours=1)
    laptop = call(
        account_id="acc", user_id="ann", machine_id="laptop", model="opus", occurred_at=at, output_tokens=10
    )
    # The log of the other machine knows no account, but whose it is.
    tower = call(user_id="ann", machine_id="tower", occurred_at=at + timedelta(seconds=20), output_tokens=30)
    other = call(user_id="bob", machine_id="b", occurred_at=at, cost_nano=5)
    now = NOW + timedelta(seconds=7.5)
    edge = now - timedelta(days=7)
    # In a minute with another machine's calls, on the next one, and about the first moment of the week.
    more = [
        ("laptop", at + timedelta(seconds=50)),
        ("laptop", at + timedelta(seconds=60)),
        ("tower", at + timedelta(seconds=60)),
        ("laptop", edge - timedelta(seconds=2)),
        ("laptop", edge),
    ]
    others = [call(user_id="ann", machine_id=m, model="opus", occurred_at=when) for m, when in more]
    # Its call was thought to be the newest of all, and is the oldest.
    late = call(user_id="cid", machine_id="c", occurred_at=NOW)
    await insert_calls(store, [laptop, tower, other, late, *others])
    older = {**late, "occurred_at": at - timedelta(minutes=2)}
    await upgrade(store, late, older)
    await upgrade(store, older, {**late, "occurred_at": at - timedelta(minutes=3)})
    await upgrade(store, laptop, {**laptop, "output_tokens": 50, "occurred_at": at - timedelta(minutes=1)})
    async with query_api(store, tmp_path, now=now) as api:
        answer = await api.json("/blocks?from=7d")
        theirs = await api.json("/blocks?from=7d", "org_b")
    assert [account["account"] for account in answer["accounts"]] == ["acc", "bob", "cid"]
    active = answer["accounts"][0]["active"]
    assert active["start"] == "2026-11-22T09:00:00.000+00:00"
    assert active["first_call_at"] == "2026-11-22T09:29:00.000+00:00"
    assert (active["calls"], active["output_tokens"]) == (5, 80)
    assert active["overlap_minutes"] == 2
    assert [(m["machine_id"], m["output_tokens"]) for m in active["machines"]] == [
        ("laptop", 50),
        ("tower", 30),
    ]
    assert active["projection"]["remaining_minutes"] == 210
    assert answer["accounts"][0]["week"]["calls"] == 6
    assert answer["accounts"][2]["active"]["last_call_at"] == "2026-11-22T09:27:00.000+00:00"
    assert theirs["accounts"] == []


async def test_a_day_whose_calls_were_all_taken_back_is_nobodys_last(store, tmp_path):
    moved = call(user_id="ann", occurred_at=NOW)
    await insert_calls(store, [moved, call(user_id="bob", occurred_at=NOW - timedelta(days=1))])
    await upgrade(store, moved, {**moved, "occurred_at": NOW - timedelta(days=3)})
    async with query_api(store, tmp_path, now=NOW) as api:
        one = await api.json("/blocks?from=7d&limit=1")
        both = await api.json("/blocks?from=7d")
    assert [account["account"] for account in one["accounts"]] == ["bob"]
    assert [account["account"] for account in both["accounts"]] == ["bob", "ann"]


async def test_of_accounts_that_called_at_the_same_moment_the_first_by_name_are_shown(store, tmp_path):
    users = [f"user_{n:02}" for n in range(40)]
    # An account with more keys than rows are looked at for each, and those who called when it did.
    keys = [call(account_id="acc", key_id=f"key_{n}", occurred_at=NOW) for n in range(40)]
    await insert_calls(store, [*keys, *(call(user_id=user, occurred_at=NOW) for user in users)])
    await insert_calls(store, [call(user_id="zoe", occurred_at=NOW + timedelta(seconds=1))])
    async with query_api(store, tmp_path, now=NOW + timedelta(seconds=2)) as api:
        answers = [await api.json(f"/blocks?from=1d&limit={most}") for most in (1, 2, 3, 50)]
    shown = [[account["account"] for account in answer["accounts"]] for answer in answers]
    assert shown == [["zoe"], ["zoe", "acc"], ["zoe", "acc", "user_00"], ["zoe", "acc", *users]]
    assert answers[1]["accounts"][1]["active"]["calls"] == 40


async def test_a_window_told_by_the_provider_pins_the_block_and_the_week(store, tmp_path):
    # A window ends where the provider says, within a minute as well.
    reset = NOW + timedelta(hours=2, minutes=20, seconds=12)
    ago = [NOW - timedelta(hours=h) for h in (1, 6, 30)]
    edge = [reset - timedelta(hours=5, milliseconds=ms) for ms in (0, 1)]
    await insert_calls(
        store,
        [call(account_id="acc", user_id="ann", key_id="key_1", occurred_at=at) for at in (*ago, *edge)],
    )
    resets = {"unified_5h": reset, "unified_7d": NOW + timedelta(days=6)}
    await insert_limits(
        store,
        [
            LimitFact(
                provider="anthropic",
                kind=kind,
                org_id="org_a",
                account_id="acc",
                observed_at=NOW,
                resets_at=at,
            )
            for kind, at in resets.items()
        ],
    )
    # Under a key that another account uses too: it counts for that alone of which nothing was told.
    under_key = {"provider": "anthropic", "kind": "unified_5h", "org_id": "org_a", "key_id": "key_1"}
    ends = NOW + timedelta(hours=1, seconds=7)
    bobs = [ends - timedelta(hours=5, milliseconds=ms) for ms in (0, 1)]
    # Exactly five hours after an estimated block's start, and right after that.
    start = datetime(2026, 11, 21, 10, tzinfo=UTC)
    bobs += [start, start + timedelta(hours=5), start + timedelta(hours=5, milliseconds=1)]
    await insert_calls(store, [call(user_id="bob", key_id="key_1", occurred_at=at) for at in bobs])
    await insert_limits(store, [LimitFact(**under_key, observed_at=NOW, resets_at=ends)])
    async with query_api(store, tmp_path, now=NOW) as api:
        account, other = (await api.json("/blocks?from=7d&tz=Asia/Kathmandu"))["accounts"]
    active = account["active"]
    assert active["pinned"]
    assert active["end"] == "2026-11-22T18:35:12.000+05:45"
    assert (active["calls"], account["week"]["pinned"], account["week"]["calls"]) == (2, True, 4)
    assert [b["calls"] for b in account["blocks"]] == [2, 2, 0, 1]
    assert [b["is_gap"] for b in account["blocks"]] == [False, False, True, False]
    assert [b["calls"] for b in other["blocks"]] == [1, 1, 0, 1, 2]
    assert [b["pinned"] for b in other["blocks"]] == [True, False, False, False, False]
