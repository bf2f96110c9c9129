"""Organisations and their keys: made, issued, revoked, and resolved from a table in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from tokentide_common.database import Engine, api_keys, organizations, reading, utc_now, writing
from tokentide_common.errors import InvalidRequest, NotFound, Unauthorized, Unavailable
from tokentide_common.keys import KeyKind, key_digest, looks_like_key, mint_key

_UNAUTHORIZED: Final = "a valid key of the right kind is needed: Authorization: Bearer … or x-tokentide-key"
_log = structlog.get_logger(__name__)


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a key speaks for. Never holds the key itself."""

    key_id: str
    org_id: str
    kind: KeyKind
    name: str = ""
    user_id: str = ""
    user_email: str = ""
    machine_id: str = ""
    project: str = ""
    team: str = ""
    department: str = ""


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


def secret_from(credentials: str | Mapping[str, str]) -> str:
    """Return the key of a request, from its lower-case headers: `x-tokentide-key` first, then the bearer.

    The own header comes first: on its way through the proxy `Authorization` carries a provider's key.
    """
    if isinstance(credentials, str):
        return credentials
    own = credentials.get("x-tokentide-key", "")
    if own:
        return own.strip()
    scheme, _, token = credentials.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class KeyDirectory:
    """All live keys in memory, by digest; refreshed in the background every `refresh_s` seconds.

    With the database away, the known keys go on working for `stale_after_s`; after that every request is
    refused with `Unavailable`, since a key may have been revoked meanwhile.
    """

    def __init__(
        self,
        engine: Engine,
        refresh_s: float = 2.0,
        *,
        stale_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._refresh_s = refresh_s
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._keys: dict[str, tuple[str, KeyRecord]] = {}
        self._version: tuple[int, int] | None = None
        self._fresh_at: float | None = None
        self._refreshing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all keys once, then keep them fresh until `stop`. Raises `Unavailable`."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="key-directory")

    async def stop(self) -> None:
        """Stop refreshing."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def resolve(self, credentials: str | Mapping[str, str], kinds: Collection[KeyKind]) -> KeyRecord:
        """Return whom a key or a request's headers speak for, without waiting for anything.

        Raises one and the same `Unauthorized` for no key, an unknown key, a revoked key and a key of another
        kind; `Unavailable` when the directory is too old to be trusted.
        """
        if self._fresh_at is None or self._clock() - self._fresh_at > self._stale_after_s:
            raise Unavailable(
                "keys cannot be checked: the accounts database is away", code="keys_unavailable"
            )
        digest = key_digest(secret_from(credentials))
        known_digest, record = self._keys.get(digest, ("", None))
        if record is None or not hmac.compare_digest(known_digest, digest) or record.kind not in kinds:
            raise Unauthorized(_UNAUTHORIZED)
        return record

    async def admit(self, credentials: str | Mapping[str, str], kinds: Collection[KeyKind]) -> KeyRecord:
        """Resolve like `resolve`, but look once more before a well-formed key is refused: it may be new.

        A known key never waits, and a flood of invented keys causes no more than one look at the database
        per quarter of the refresh interval.
        """
        try:
            return self.resolve(credentials, kinds)
        except Unauthorized:
            if not looks_like_key(secret_from(credentials)):
                raise
        await self.refresh(unless_younger_than_s=self._refresh_s / 4)
        return self.resolve(credentials, kinds)

    async def refresh(self, *, unless_younger_than_s: float = 0.0) -> None:
        """Read the keys anew if any was issued or revoked. Raises `Unavailable`."""
        async with self._refreshing:
            asked_at = self._clock()
            if self._fresh_at is not None and asked_at - self._fresh_at < unless_younger_than_s:
                return
            changed = await asyncio.to_thread(_read_keys, self._engine, self._version)
            if changed is not None:
                self._version, self._keys = changed
            self._fresh_at = asked_at  # as old as the question, not as the answer

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.refresh()
            except Unavailable:
                _log.warning("key_refresh_failed", fresh_at=self._fresh_at)


def _read_keys(
    engine: Engine, known: tuple[int, int] | None
) -> tuple[tuple[int, int], dict[str, tuple[str, KeyRecord]]] | None:
    """Return the live keys by digest, or None when nothing changed since version `known`."""
    with reading(engine) as connection:
        # Keys are never deleted and never come back, so that these two counts name a version of the table.
        counts = connection.execute(sa.select(sa.func.count(), sa.func.count(api_keys.c.revoked_at))).one()
        version = (int(counts[0]), int(counts[1]))
        if version == known:
            return None
        fields = [api_keys.c[name] for name in KeyRecord.__struct_fields__]
        live = connection.execute(
            sa.select(api_keys.c.digest, *fields).where(api_keys.c.revoked_at.is_(None))
        )
        keys = {row["digest"]: (row["digest"], _record(row)) for row in live.mappings()}
    return version, keys


def _record(row: sa.RowMapping) -> KeyRecord:
    return msgspec.convert({name: row[name] for name in KeyRecord.__struct_fields__}, KeyRecord)
