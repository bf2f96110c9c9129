"""Organisations and their keys: made, issued and revoked."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokentide_common.database import (
    Engine,
    api_keys,
    organizations,
    reading,
    selected,
    utc_now,
    writing,
)
from tokentide_common.errors import InvalidRequest, NotFound
from tokentide_common.key_directory import KeyRecord, LiveKeys, secret_from
from tokentide_common.keys import KeyKind, mint_key

__all__ = [
    "KeyDirectory",
    "KeyRecord",
    "create_organization",
    "issue_key",
    "organization_time_zone",
    "revoke_key",
    "secret_from",
]


def create_organization(engine: Engine, name: str, *, time_zone: str = "UTC", org_id: str = "") -> str:
    """Create an organisation whose days and rankings are in `time_zone` (IANA), and return its id."""
    try:
        ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidRequest("unknown time zone", fields={"time_zone": "not an IANA time zone"}) from exc
    org_id = org_id or f"org_{uuid.uuid4().hex}"
    with writing(engine) as connection:
        connection.execute(
            sa.insert(organizations).values(
                org_id=org_id, name=name, time_zone=time_zone, created_at=utc_now()
            )
        )
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


def issue_key(engine: Engine, org_id: str, kind: KeyKind, **facts: str) -> tuple[str, KeyRecord]:
    """Issue a key and return it with its record; this is the only time that the key itself is seen.

    `facts` are the fields of `KeyRecord` from `name` on, e.g. `machine_id`. Raises `NotFound` for an unknown
    organisation.
    """
    secret, digest = mint_key(kind)
    record = KeyRecord(key_id=f"key_{uuid.uuid4().hex}", org_id=org_id, kind=kind, **facts)
    with writing(engine) as connection:
        try:
            connection.execute(
                sa.insert(api_keys).values(
                    **msgspec.structs.asdict(record), digest=digest, created_at=utc_now()
                )
            )
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
            sa.update(api_keys).where(*mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=utc_now())
        )


class KeyDirectory(LiveKeys):
    """The live keys as an engine reads them."""

    def __init__(
        self,
        engine: Engine,
        refresh_s: float = 2.0,
        *,
        stale_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(partial(selected, engine), refresh_s, stale_after_s=stale_after_s, clock=clock)
