"""The leaderboard shows who asked for it, under the handle that they chose, and nothing else of anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from infra.ledger_rows import call, insert_calls
from infra.query_client import Caller, query_api
from infra.waiting import until
from tokentide_common.accounts import next_revision
from tokentide_common.accounts_schema import users
from tokentide_common.database import writing

BEGINNING = datetime(2026, 11, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def show(api: Caller, user_id: str, handle: str | None, *, on: bool = True) -> None:
    with writing(api.people.engine) as connection:
        chosen = {"handle": handle, "on_leaderboard": on}
        connection.execute(sa.update(users).where(users.c.user_id == user_id).values(chosen))
        next_revision(connection, "people")


async def test_only_who_opted_in_is_shown_under_their_handle_with_the_calls_of_all_their_organisations(
    store, tmp_path
):
    async with query_api(store, tmp_path) as api:
        alice, bob = api.who("member"), api.who("admin", "org_b")
        quiet, nameless = api.who("owner"), api.who("owner", "org_b")
        api.people.join("org_b", "viewer", person=alice)
        await insert_calls(
            store,
            [
                call(user_id=alice.user_id, output_tokens=10, cost_nano=1_000_000_000),
                call(org_id="org_b", user_email=alice.email.upper(), output_tokens=5, cost_nano=1),
                # Somebody of that name in an organisation where she is not, and her colleagues.
                call(org_id="org_c", user_id=alice.user_id, output_tokens=1_000),
                call(user_id=quiet.user_id, user_email=quiet.email, output_tokens=1_000),
                call(user_id=nameless.user_id, org_id="org_b", output_tokens=1_000),
                call(user_id="", user_email="", output_tokens=1_000),
                call(org_id="org_b", user_id=bob.user_id, output_tokens=15, occurred_at=BEGINNING),
                call(org_id="org_b", user_id=bob.user_id, output_tokens=15, occurred_at=BEGINNING - SECOND),
            ],
        )  # fmt: skip
        assert (await api.json("/leaderboard"))["items"] == []
        show(api, alice.user_id, "alice")
        show(api, bob.user_id, "bob")
        show(api, quiet.user_id, "quiet", on=False)
        show(api, nameless.user_id, None)

        async def shown() -> bool:
            return len((await api.json("/leaderboard?metric=tokens"))["items"]) == 2

        await until(shown)
        found = await api.json("/leaderboard?metric=tokens")
        assert found == {
            "period": "month", "period_start": "2026-11-01", "metric": "tokens", "tz": "UTC",
            "items": [
                {"rank": 1, "handle": "alice", "value": 15},
                {"rank": 1, "handle": "bob", "value": 15},
            ],
            "next_cursor": None,
        }  # fmt: skip
        # Whoever asks gets the same, from wherever.
        for role in ("viewer", "member", "owner"):
            for org in ("org_a", "org_b"):
                answer = await api.ask("GET", "/leaderboard?metric=tokens", api.who(role, org))
                assert answer.json() == found
        by_cost = await api.json("/leaderboard")
        assert by_cost["items"] == [{"rank": 1, "handle": "alice", "value": "1.000000001"}]
        first = await api.json("/leaderboard?metric=calls&period=all&limit=1")
        second = await api.json(f"/leaderboard?metric=calls&period=all&limit=1&cursor={first['next_cursor']}")
        assert [(i["handle"], i["value"]) for i in (*first["items"], *second["items"])] == [
            ("alice", 2),
            ("bob", 2),
        ]
        show(api, alice.user_id, "alice", on=False)

        async def gone() -> bool:
            return "alice" not in (await api.get("/leaderboard?metric=tokens")).text

        await until(gone)
