"""All live keys in memory, looked up without waiting; where they are read from is the caller's choice."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any, Final, Literal, NamedTuple

import msgspec

from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.every import Every
from tokentide_common.keys import KeyKind, key_digest, looks_like_key

Role = Literal["owner", "admin", "member", "viewer"]
"""What somebody may do in an organisation, from most to least: see docs/reference/roles.md."""
Select = Callable[[str], Sequence[Sequence[Any]]]
"""Returns the rows of a query of the accounts database; blocks; raises `Unavailable`."""

_UNAUTHORIZED: Final = "a valid key of the right kind is needed: Authorization: Bearer … or x-tokentide-key"


class KeyRecord(msgspec.Struct, frozen=True, gc=False):
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
    role: Role = "admin"
    """What an API key may do at most; one that has an owner never does more than that owner may."""
    scopes: str = ""
    """Separated by blanks; empty: everything that its kind may do."""
    owner_id: str = ""
    """The user who reads with it; empty: the organisation itself."""
    expires_at: float = math.inf
    """Seconds since 1970."""


_FIELDS: Final = ", ".join(KeyRecord.__struct_fields__)
# Every change of a key takes the next number of `revisions` and holds it until it is committed, so that
# whoever has seen a number has seen all smaller ones.
_NEWEST: Final = "SELECT revision FROM revisions WHERE name = 'keys'"
_COLUMNS: Final = f"SELECT digest, revoked_at, {_FIELDS} FROM api_keys"  # noqa: S608 -- our own names


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
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._select = select
        self._refresh_s = refresh_s
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._keys: dict[str, _Known] = {}
        self._of_owner: dict[str, set[str]] = {}
        self._used: list[_Known] = []
        self._revision = -1
        self._fresh_at: float | None = None
        self._refreshing = asyncio.Lock()
        self._freshening = Every(
            "key-directory", self.refresh, seconds=refresh_s, at_end=False, failed="key_refresh_failed"
        )

    async def start(self) -> None:
        """Read all keys once, then keep them fresh until `stop`. Raises `Unavailable`."""
        await self.refresh()
        self._freshening.start()

    async def stop(self) -> None:
        """Stop refreshing."""
        await self._freshening.stop()

    def resolve(self, credentials: str | Mapping[str, str], kinds: Collection[KeyKind]) -> KeyRecord:
        """Return whom a key or a request's headers speak for, without waiting for anything.

        Raises one and the same `Unauthorized` for no key, an unknown, revoked or expired one and one of
        another kind; `Unavailable` when the directory is too old to be trusted.
        """
        return self.resolve_digest(key_digest(secret_from(credentials)), kinds)

    def resolve_digest(self, digest: str, kinds: Collection[KeyKind]) -> KeyRecord:
        """Do as `resolve` does for a key whose digest is known already."""
        if self._fresh_at is None or self._clock() - self._fresh_at > self._stale_after_s:
            raise Unavailable(
                "keys cannot be checked: the accounts database is away", code="keys_unavailable"
            )
        known = self._keys.get(digest)
        if known is None or not compare_digest(known.digest, digest):
            raise Unauthorized(_UNAUTHORIZED)
        record, now = known.record, self._wall_clock()
        if record.kind not in kinds or record.expires_at <= now:
            raise Unauthorized(_UNAUTHORIZED)
        if not known.used_at:
            self._used.append(known)
        known.used_at = now
        return record

    def take_used(self) -> dict[str, tuple[KeyRecord, float]]:
        """Return the keys that were used since the last time, by id, each with when it was last."""
        used, self._used = self._used, []
        taken = {known.record.key_id: (known.record, known.used_at) for known in used}
        for known in used:
            known.used_at = 0.0
        return taken

    def of_owner(self, user_id: str) -> frozenset[str]:
        """Return the ids of a user's keys, in whatever organisation."""
        return frozenset(self._of_owner.get(user_id, ()))

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
        """Read the keys that were issued, changed or revoked since the last time. Raises `Unavailable`."""
        async with self._refreshing:
            asked_at = self._clock()
            if self._fresh_at is not None and asked_at - self._fresh_at < unless_younger_than_s:
                return
            read = await asyncio.to_thread(_read, self._select, self._revision)
            if read is not None:
                self._revision, changed, gone = read
                for known in changed.values():
                    self._disown(known.digest)
                    self._own(known.record)
                self._keys.update(changed)
                for digest in gone:
                    self._disown(digest)
                    self._keys.pop(digest, None)
            self._fresh_at = asked_at  # as old as the question, not as the answer

    def _own(self, record: KeyRecord) -> None:
        if record.owner_id:
            self._of_owner.setdefault(record.owner_id, set()).add(record.key_id)

    def _disown(self, digest: str) -> None:
        """Forget whose a key was; keys change hands."""
        known = self._keys.get(digest)
        if known is None or not known.record.owner_id:
            return
        mine = self._of_owner[known.record.owner_id]
        mine.discard(known.record.key_id)
        if not mine:
            del self._of_owner[known.record.owner_id]


class _Known(msgspec.Struct, gc=False):
    """A live key; its `digest` is what a presented one is compared with."""

    digest: str
    record: KeyRecord
    used_at: float = 0.0
    """When it was used since somebody last asked; 0: not since."""


class _Changes(NamedTuple):
    revision: int
    live: dict[str, _Known]
    gone: list[str]


def _read(select: Select, known: int) -> _Changes | None:
    """Return what changed after revision `known`, or None when nothing did; -1: nothing is known."""
    # Read first: what changes in between is read once more, never missed.
    newest = max((int(revision) for (revision,) in select(_NEWEST)), default=0)
    if newest == known:
        return None
    changed = "revoked_at IS NULL" if known < 0 else f"revision > {known}"
    live: dict[str, _Known] = {}
    gone = []
    for digest, revoked_at, *facts in select(f"{_COLUMNS} WHERE {changed}"):
        if revoked_at is None:
            facts[-2:] = facts[-2] or "", _epoch_s(facts[-1])  # owner and end, which may be NULL
            live[digest] = _Known(digest, KeyRecord(*facts))
        else:
            gone.append(digest)
    return _Changes(newest, live, gone)


def _epoch_s(time: datetime | str | None) -> float:
    """Return a time as a driver gives it, SQLite's as text in UTC, in seconds since 1970; none is never."""
    if time is None:
        return math.inf
    read = datetime.fromisoformat(time) if isinstance(time, str) else time
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
