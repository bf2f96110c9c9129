"""Whoever guesses must wait, longer each time: by e-mail address and by network address, known or not."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import login_failures
from tokentide_common.database import insert_or, writing_async
from tokentide_common.errors import RateLimited
from tokentide_query_api.accounts.desk import Desk

Kind = Literal["email", "address", "letters", "device"]
FORGOTTEN_AFTER: Final = timedelta(hours=1)
"""Attempts that nothing followed for so long count no more."""


class Rule(msgspec.Struct, frozen=True):
    """How many attempts are free, and how the wait grows from there."""

    free: int
    first_s: float
    longest_s: float

    def wait(self, attempts: int) -> timedelta:
        """Return how long to wait after so many attempts in vain."""
        beyond = attempts - self.free
        if beyond < 0:
            return timedelta(0)
        return timedelta(seconds=min(self.first_s * 2.0 ** min(beyond, 30), self.longest_s))


RULES: Final[dict[Kind, Rule]] = {
    "email": Rule(free=5, first_s=2, longest_s=15 * 60),
    # Many people may share an address; nobody who guesses needs only one e-mail address.
    "address": Rule(free=30, first_s=2, longest_s=15 * 60),
    "letters": Rule(free=3, first_s=60, longest_s=60 * 60),
    "device": Rule(free=5, first_s=2, longest_s=15 * 60),
}


async def count_attempt(desk: Desk, *subjects: tuple[Kind, str]) -> None:
    """Count an attempt, before anybody knows whether it is right. Raises `RateLimited` while it must wait.

    Counted first and forgiven after, so that attempts at once, at any number of replicas, get no more guesses
    than attempts one by one.
    """
    now = desk.clock()
    # In one order, so that two transactions never wait for each other.
    ordered = sorted((_digest(desk, subject), subject[0]) for subject in subjects)
    async with writing_async(desk.engine) as connection:
        for digest, kind in ordered:
            await _count(desk, connection, digest, RULES[kind], now)


async def forgive(desk: Desk, connection: AsyncConnection, *subjects: tuple[Kind, str]) -> None:
    """Forget the attempts of somebody who was right, in the caller's transaction.

    Never those of a network address: who guesses there could be right about an account of their own.
    """
    digests = [_digest(desk, subject) for subject in subjects]
    await connection.execute(sa.delete(login_failures).where(login_failures.c.subject.in_(digests)))


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
    before = 0 if known.last_failed_at < now - FORGOTTEN_AFTER else known.failures
    counted = sa.update(login_failures).where(login_failures.c.subject == digest)
    await connection.execute(
        counted.values(failures=before + 1, last_failed_at=now, locked_until=now + rule.wait(before + 1))
    )


def _digest(desk: Desk, subject: tuple[Kind, str]) -> str:
    return desk.safe.digest("login failures", ":".join(subject))
