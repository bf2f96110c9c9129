"""Organisations and their keys: made, issued and revoked."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from tokentide_common import time_zones
from tokentide_common.accounts_schema import api_keys, organizations, revisions
from tokentide_common.database import Engine, reading, selected, utc_now, writing
from tokentide_common.errors import InvalidRequest, NotFound
from tokentide_common.key_directory import KeyRecord, LiveKeys, secret_from
from tokentide_common.keys import KeyKind, mint_key
from tokentide_common.last_seen import LastSeen

__all__ = [
    "KeyDirectory",
    "KeyRecord",
    "create_organization",
    "issue_key",
    "key_row",
    "next_revision",
    "organization_time_zone",
    "revoke_key",
    "secret_from",
]

_ORG_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def create_organization(engine: Engine, name: str, *, time_zone: str = "UTC", org_id: str = "") -> str:
    """Create an organisation whose days and rankings are in `time_zone` (IANA), and return its id."""
    try:
        time_zones.time_zone(time_zone)
    except ValueError as exc:
        raise InvalidRequest("unknown time zone", fields={"time_zone": "not an IANA time zone"}) from exc
    org_id = org_id or f"org_{uuid.uuid4().hex}"
    if not _ORG_ID.fullmatch(org_id):
        raise InvalidRequest("an id has up to 64 letters, digits, dots, dashes and underscores")
    with writing(engine) as connection:
        connection.execute(
            sa.insert(organizations).values(
                org_id=org_id, name=name, time_zone=time_zone, created_at=utc_now()
            )
        )
        next_revision(connection, "people")
    return org_id


def organization_time_zone(engine: Engine, org_id: str) -> str:
    """Return an organisation's IANA time zone; raises `NotFound`."""
    with reading(engine) as connection:
        zone = connection.execute(
            sa.select(organizations.c.time_zone).where(organizations.c.org_id == org_id)
        ).scalar_one_or_none()
    if zone is None:
        raise NotFound("no such organization")
    return str(zone)


def issue_key(
    engine: Engine,
    org_id: str,
    kind: KeyKind,
    **facts: Any,  # noqa: ANN401 -- each has the type of its field
) -> tuple[str, KeyRecord]:
    """Issue a key and return it with its record; this is the only time that the key itself is seen.

    `facts` are the fields of `KeyRecord` from `name` on, e.g. `machine_id`. Raises `NotFound` for an unknown
    organisation.
    """
    secret, digest = mint_key(kind)
    record = KeyRecord(key_id=f"key_{uuid.uuid4().hex}", org_id=org_id, kind=kind, **facts)
    with writing(engine) as connection:
        try:
            connection.execute(sa.insert(api_keys).values(**key_row(record, digest, connection)))
        except IntegrityError as exc:
            raise NotFound("no such organization") from exc
    return secret, record


def revoke_key(engine: Engine, org_id: str, key_id: str) -> None:
    """Revoke a key for good; no service accepts it after five seconds. Raises `NotFound` outside `org_id`."""
    mine = (api_keys.c.org_id == org_id, api_keys.c.key_id == key_id)
    with writing(engine) as connection:
        if connection.execute(sa.select(api_keys.c.key_id).where(*mine)).first() is None:
            raise NotFound("no such key")
        connection.execute(
            sa.update(api_keys)
            .where(*mine, api_keys.c.revoked_at.is_(None))
            .values(revoked_at=utc_now(), revision=next_revision(connection, "keys"))
        )


def key_row(record: KeyRecord, digest: str, connection: Connection) -> dict[str, object]:
    """Return a new key's row of `api_keys`; `connection` is the transaction that inserts it."""
    return {
        **msgspec.structs.asdict(record),
        "digest": digest,
        "created_at": utc_now(),
        "owner_id": record.owner_id or None,
        "expires_at": None
        if math.isinf(record.expires_at)
        else datetime.fromtimestamp(record.expires_at, UTC),
        "revision": next_revision(connection, "keys"),
    }


def next_revision(connection: Connection, name: Literal["keys", "people"]) -> int:
    """Return the number of a change of keys, or of people, organisations and sessions.

    Until the transaction ends nobody else gets one: numbers become visible in their order, so that whoever
    has seen a number has seen all smaller ones. Take it last, since others wait.
    """
    counted = sa.update(revisions).where(revisions.c.name == name).values(revision=revisions.c.revision + 1)
    return int(connection.execute(counted.returning(revisions.c.revision)).scalar_one())


class KeyDirectory(LiveKeys):
    """The live keys as an engine reads them, which notes when each was used."""

    def __init__(
        self,
        engine: Engine,
        refresh_s: float = 2.0,
        *,
        stale_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(partial(selected, engine), refresh_s, stale_after_s=stale_after_s, clock=clock)
        self.last_seen = LastSeen(engine, self.take_used)

    async def start(self) -> None:
        """Read all keys once, then keep them fresh, and write when they were used, until `stop`."""
        await super().start()
        self.last_seen.start()

    async def stop(self) -> None:
        """Stop refreshing, and write what was noted."""
        await self.last_seen.stop()
        await super().stop()
