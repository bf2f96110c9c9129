"""When keys were used and machines seen last: noted in memory, written every minute, on no request's path.

What was noted since the last writing is lost with the process: of that a minute at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tokentide_common.accounts_schema import api_keys, machines, users
from tokentide_common.database import insert_or, writing
from tokentide_common.every import Every
from tokentide_common.key_directory import KeyRecord

TakeUsed = Callable[[], Mapping[str, tuple[KeyRecord, float]]]
# A key may claim any machine, and as many as it likes: those of a minute beyond these are left out.
_MOST_MACHINES: Final = 1_000
_MOST_MACHINES_OF_ORG: Final = 10_000
_LONGEST_ID: Final = 200


class SeenMachine(msgspec.Struct, frozen=True):
    """What a machine said of itself."""

    org_id: str
    machine_id: str
    owner_id: str = ""
    name: str = ""
    cli_version: str = ""


class LastSeen:
    """Writes what `take_used` and `machine` have told, every minute and at the end."""

    def __init__(self, engine: Engine, take_used: TakeUsed) -> None:
        self._engine = engine
        self._take_used = take_used
        self._machines: dict[tuple[str, str], SeenMachine] = {}
        self._writing = Every("last-seen", self.write)

    def start(self) -> None:
        """Begin to write."""
        self._writing.start()

    async def stop(self) -> None:
        """Write what is left, and end."""
        await self._writing.stop()

    def machine(self, seen: SeenMachine) -> None:
        """Note that a machine was heard of."""
        if 0 < len(seen.machine_id) <= _LONGEST_ID and len(self._machines) < _MOST_MACHINES:
            self._machines[seen.org_id, seen.machine_id] = seen

    async def write(self) -> None:
        """Write what was noted; what cannot be written now is gone. Raises `Unavailable`."""
        used = self._take_used()
        for key, _ in used.values():
            if key.machine_id and (key.org_id, key.machine_id) not in self._machines:
                self.machine(SeenMachine(key.org_id, key.machine_id, key.owner_id))
        heard, self._machines = list(self._machines.values()), {}
        if used or heard:
            await asyncio.to_thread(_write, self._engine, {k: at for k, (_, at) in used.items()}, heard)


def _write(engine: Engine, used: Mapping[str, float], heard: list[SeenMachine]) -> None:
    with writing(engine) as connection:
        _write_keys(connection, used)
        # In one order, so that two replicas never wait for each other.
        for seen in sorted(heard, key=lambda each: (each.org_id, each.machine_id)):
            _write_machine(connection, engine, seen)


def _write_keys(connection: Connection, used: Mapping[str, float]) -> None:
    if not used:
        return
    key_id, at = (
        sa.bindparam("of_key", type_=sa.String),
        sa.bindparam("used_at", type_=api_keys.c.last_used_at.type),
    )
    older = sa.or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at)
    update = sa.update(api_keys).where(api_keys.c.key_id == key_id, older).values(last_used_at=at)
    connection.execute(
        update,
        [{"of_key": key, "used_at": datetime.fromtimestamp(when, UTC)} for key, when in sorted(used.items())],
    )


def _write_machine(connection: Connection, engine: Engine, seen: SeenMachine) -> None:
    now = datetime.now(UTC)
    mine = (machines.c.org_id == seen.org_id, machines.c.machine_id == seen.machine_id)
    # None, should the owner have gone meanwhile.
    owner = sa.select(users.c.user_id).where(users.c.user_id == seen.owner_id).scalar_subquery()
    # A name that somebody gave stays; so does the owner.
    told = {
        "last_seen_at": now,
        "name": sa.case((machines.c.name == "", seen.name[:_LONGEST_ID]), else_=machines.c.name),
        "cli_version": seen.cli_version[:64] or machines.c.cli_version,
        "user_id": sa.func.coalesce(machines.c.user_id, owner),
    }
    if connection.execute(sa.update(machines).where(*mine).values(**told)).rowcount:
        return
    count = sa.select(sa.func.count()).select_from(machines).where(machines.c.org_id == seen.org_id)
    if connection.execute(count).scalar_one() >= _MOST_MACHINES_OF_ORG:
        return
    new = {
        "org_id": seen.org_id,
        "machine_id": seen.machine_id,
        "name": seen.name[:_LONGEST_ID],
        "cli_version": seen.cli_version[:64],
        "user_id": owner,
        "first_seen_at": now,
        "last_seen_at": now,
    }
    connection.execute(insert_or(engine, machines).values(**new).on_conflict_do_nothing())
