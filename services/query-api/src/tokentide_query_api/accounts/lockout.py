"""Whoever guesses must wait, longer each time: by e-mail address, known or not, and by whom codes are typed.

By network address nobody is kept from logging in: many may share one, and whoever guesses there would keep
them all out. `RateLimits` bounds what comes from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import login_failures
from tokentide_common.database import insert_or, writing_async
from tokentide_common.errors import RateLimited
from tokentide_query_api.accounts.desk import Desk

Kind = Literal[
    "email", "letters", "letters of all", "device", "sign-ups from", "letters from", "devices from"
]
"""`… from`: a network address. Each has a count of its own: one flood keeps nobody from the others."""


class Rule(msgspec.Struct, frozen=True):
    """How many attempts are free, how the wait grows from there, and how fast attempts are forgotten."""

    free: int
    first_s: float
    longest_s: float
    forgets_one_s: float
    """Seconds after which there is one attempt less."""

    def wait(self, attempts: int) -> timedelta:
        """Return how long to wait after so many attempts in vain."""
        beyond = attempts - self.free
        if beyond < 0:
            return timedelta(0)
        return timedelta(seconds=min(self.first_s * 2.0 ** min(beyond, 30), self.longest_s))

    def left(self, attempts: int, since: timedelta) -> int:
        """Return how many attempts still count after some time without any."""
        return max(0, attempts - int(since.total_seconds() // self.forgets_one_s))


# Many people may share an address, and behind a reverse proxy all do: one who floods slows all down a little,
# and never locks them out.
_FROM: Final = Rule(free=100, first_s=1, longest_s=30, forgets_one_s=30)
RULES: Final[dict[Kind, Rule]] = {
    "email": Rule(free=5, first_s=2, longest_s=15 * 60, forgets_one_s=12 * 60),
    "letters": Rule(free=3, first_s=60, longest_s=60 * 60, forgets_one_s=30 * 60),
    "letters of all": Rule(free=10, first_s=60, longest_s=60 * 60, forgets_one_s=30 * 60),
    "device": Rule(free=5, first_s=2, longest_s=15 * 60, forgets_one_s=12 * 60),
    "sign-ups from": _FROM,
    "letters from": _FROM,
    "devices from": _FROM,
}


async def count_attempt(desk: Desk, *subjects: tuple[Kind, str]) -> None:
    """Count an attempt, before anybody knows whether it is right. Raises `RateLimited` while it must wait.

    Counted first and forgiven after, so that attempts at once, at any number of replicas, get no more guesses
    than attempts one by one.
    """
    now = desk.clock()
    async with writing_async(desk.engine) as connection:
        for digest, kind in _in_order(desk, subjects):
            await _count(desk, connection, digest, RULES[kind], now)


async def forgive(desk: Desk, connection: AsyncConnection, *subjects: tuple[Kind, str]) -> None:
    """Forget the attempts of somebody who was right, in the caller's transaction.

    Of codes only this one: who guesses them can always type one right that they began themselves.
    """
    for digest, kind in _in_order(desk, subjects):
        mine = login_failures.c.subject == digest
        if kind == "device":
            fewer = sa.update(login_failures).where(mine, login_failures.c.failures > 0)
            await connection.execute(fewer.values(failures=login_failures.c.failures - 1, locked_until=None))
        else:
            await connection.execute(sa.delete(login_failures).where(mine))


def _in_order(desk: Desk, subjects: Iterable[tuple[Kind, str]]) -> list[tuple[str, Kind]]:
    # In one order, so that two transactions never wait for each other.
    return sorted((subject_digest(desk, *subject), subject[0]) for subject in subjects)


async def _count(desk: Desk, connection: AsyncConnection, digest: str, rule: Rule, now: datetime) -> None:
    # The update changes nothing, but waits for whoever counts the same at this moment.
    insert = insert_or(desk.engine.sync_engine, login_failures)
    statement = insert.values(subject=digest, failures=0, last_failed_at=now).on_conflict_do_update(
        index_elements=["subject"], set_={"failures": login_failures.c.failures}
    )
    columns = (login_failures.c.failures, login_failures.c.last_failed_at, login_failures.c.locked_until)
    known = (await connection.execute(statement.returning(*columns))).one()
    if known.locked_until is not None and known.locked_until > now:
        wait_s = math.ceil((known.locked_until - now).total_seconds())
        raise RateLimited("too many attempts: wait before the next", retry_after_s=wait_s, code="locked_out")
    before = rule.left(known.failures, now - known.last_failed_at)
    counted = sa.update(login_failures).where(login_failures.c.subject == digest)
    await connection.execute(
        counted.values(failures=before + 1, last_failed_at=now, locked_until=now + rule.wait(before + 1))
    )


def subject_digest(desk: Desk, kind: Kind, text: str) -> str:
    """Return under what attempts are counted: nobody can tell from it whose they are."""
    return desk.safe.digest("login failures", f"{kind}:{text}")
