"""Calls are found by digests of their users and sessions, and told apart by what these are of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra import query_oracle as oracle
from infra.earlier_store import as_before
from infra.ledger_rows import DEFAULTS, call, insert_calls
from infra.query_client import query_api
from tokentide_common.migrate import migrate
from tokentide_common.store import rows

NOW = DEFAULTS["occurred_at"] + timedelta(hours=1)
_WRONG = (
    "SELECT countIf(user_key != toUInt32(sipHash64(user_id))) AS users, count() AS calls,"
    " countIf(session_key != if(session_id = '', 0, sipHash64(session_id))) AS sessions FROM "
)
_COPY = "mergeTreeProjection(currentDatabase(), 'ledger', 'by_user')"


async def test_calls_from_before_there_were_keys_have_them_and_are_in_the_copy(empty_store, monkeypatch):
    await as_before(empty_store, monkeypatch, "0019_keys.sql")
    await oracle.fill(empty_store, seed=7, zone="Europe/Berlin", size=80)
    await migrate(empty_store)
    await insert_calls(empty_store, [call(user_id="new", session_id="s")])
    # What is done in the background is waited for: a further change of the same kind comes after it.
    await empty_store.command("ALTER TABLE ledger MATERIALIZE PROJECTION by_user SETTINGS mutations_sync = 1")
    [ledger], [copy] = [await rows(empty_store, _WRONG + table) for table in ("ledger", _COPY)]
    assert ledger["calls"] > 80
    assert ledger == copy == {"users": 0, "calls": ledger["calls"], "sessions": 0}


async def alike(store):
    """Return two users with the same key: of 200,000 there are some."""
    found = await rows(
        store,
        "SELECT groupArray(user) AS users FROM"
        " (SELECT concat('user_', toString(number)) AS user FROM numbers(200000))"
        " GROUP BY toUInt32(sipHash64(user)) HAVING count() > 1 ORDER BY ALL LIMIT 1",
    )
    return found[0]["users"][:2]


@pytest.mark.parametrize("question", ["/calls?", "/sessions?", "/usage/breakdown?by=stop_reason&"])
async def test_users_with_the_same_key_are_told_apart(store, tmp_path, question):
    one, other = await alike(store)
    calls = [call(user_id=user, session_id=user, stop_reason=user) for user in (one, other)]
    await insert_calls(store, calls)
    async with query_api(store, tmp_path, now=NOW) as api:
        for user, another in ((one, other), (other, one)):
            answer = await api.get(f"{question}user_id={user}&from=1d")
            assert f'"{user}"' in answer.text
            assert f'"{another}"' not in answer.text


async def test_blocks_of_users_with_the_same_key_are_their_own(store, tmp_path):
    one, other = await alike(store)
    late = DEFAULTS["occurred_at"] + timedelta(minutes=1)
    await insert_calls(store, [call(user_id=one, occurred_at=late), call(user_id=other), call(user_id=other)])
    async with query_api(store, tmp_path, now=NOW) as api:
        answer = await api.json("/blocks?from=1d&limit=1")
    [account] = answer["accounts"]
    assert (account["account"], account["active"]["calls"]) == (one, 1)
