"""People in memory: how often they are read, whoever wants them how often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tokentide_common.errors import Unauthorized
from tokentide_common.key_directory import LiveKeys
from tokentide_query_api.accounts.access_tokens import AccessTokens, Claims
from tokentide_query_api.accounts.admission import Access
from tokentide_query_api.accounts.people import LivePeople
from tokentide_query_api.leaderboard_statement import Shown


class Accounts:
    """A database of two people that changes with every look, and counts how often all of it is read."""

    def __init__(self) -> None:
        self.looks = self.reads = 0
        self.threads: set[str] = set()
        self.moving = threading.Event()
        self.moving.set()

    def select(self, sql: str) -> Sequence[Sequence[Any]]:
        self.moving.wait(20)
        if "revisions" in sql:
            self.looks += 1
            return [(self.looks,)]
        if "memberships" in sql:
            self.reads += 1
            return [("org_a", user, "member", f"{user}@a.example", user) for user in ("bob", "ann")]
        return []


async def test_many_changes_at_once_are_read_together() -> None:
    accounts = Accounts()
    people = LivePeople(accounts.select)
    await people.refresh()
    accounts.moving.clear()
    waiting = [asyncio.create_task(people.refresh()) for _ in range(50)]
    await asyncio.sleep(0)  # all of them have asked
    accounts.moving.set()
    await asyncio.gather(*waiting)
    # The one under way when the others came, which may have missed their change, and one for all of these.
    assert accounts.reads <= 3
    assert people.on_leaderboard() == (
        Shown("org_a", "ann", "ann@a.example", "ann"),
        Shown("org_a", "bob", "bob@a.example", "bob"),
    )


async def test_who_was_removed_and_asks_on_makes_no_flood_of_queries() -> None:
    accounts = Accounts()
    people = LivePeople(accounts.select)
    await people.refresh()
    now = datetime.now(UTC)
    tokens = AccessTokens("s" * 32)
    token = tokens.issue(Claims("gone", "ses_1", "org_a"), now)
    access = Access(LiveKeys(accounts.select), people, tokens, lambda: now)
    asked = [access.admit({"authorization": f"Bearer {token}"}) for _ in range(50)]
    refused = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in refused} == {Unauthorized}
    assert accounts.looks <= 3
