"""All live keys in memory, looked up without waiting; where they are read from is the caller's choice."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.keys import KeyKind, key_digest, looks_like_key

Select = Callable[[str], Sequence[Sequence[Any]]]
"""Returns the rows of a query of the accounts database; blocks; raises `Unavailable`."""

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


_VERSION: Final = "SELECT count(*), count(revoked_at) FROM api_keys"
_FIELDS: Final = ", ".join(KeyRecord.__struct_fields__)
_LIVE: Final = f"SELECT digest, {_FIELDS} FROM api_keys WHERE revoked_at IS NULL"  # noqa: S608 -- our own names


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


class LiveKeys:
    """All live keys in memory, by digest; refreshed in the background every `refresh_s` seconds.

    With the database away, the known keys go on working for `stale_after_s`; after that every request is
    refused with `Unavailable`, since a key may have been revoked meanwhile.
    """

    def __init__(
        self,
        select: Select,
        refresh_s: float = 2.0,
        *,
        stale_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._select = select
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
            changed = await asyncio.to_thread(_read, self._select, self._version)
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


def _read(
    select: Select, known: tuple[int, int] | None
) -> tuple[tuple[int, int], dict[str, tuple[str, KeyRecord]]] | None:
    """Return the live keys by digest, or None when nothing changed since version `known`."""
    # Keys are never deleted and never come back, so that these two counts name a version of the table. They
    # are read first: what changes in between is read once more, never missed.
    ((issued, revoked),) = select(_VERSION)
    version = (int(issued), int(revoked))
    if version == known:
        return None
    keys = {digest: (digest, _record(fields)) for digest, *fields in select(_LIVE)}
    return version, keys


def _record(fields: Sequence[Any]) -> KeyRecord:
    return msgspec.convert(dict(zip(KeyRecord.__struct_fields__, fields, strict=True)), KeyRecord)
