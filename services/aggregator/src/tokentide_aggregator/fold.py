"""Folding: what a batch of records says, grouped by what is counted once. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from tokentide_common.errors import InvalidEvent
from tokentide_common.identity import call_hash
from tokentide_common.repricing import REPRICE

E = TypeVar("E")
Key = tuple[str, str]
"""(org_id, the id inside the organisation)."""
_MAX_POSITION: Final = 2**31


class ConsumedRecord(Protocol):
    """What the fold needs of a record of the driver."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Waiting(NamedTuple):
    """A sender waits for the verdict on the event at `position` of its `batch`."""

    reply_to: bytes
    batch: str
    position: int


class DeadLetter(NamedTuple):
    """A record that cannot be counted: its offset, the stable reason, and the hash of its value."""

    offset: int
    reason: str
    digest: str
    waiting: Waiting | None


class Group(msgspec.Struct, Generic[E], gc=False):
    """All that a batch says of one key, in order of offset."""

    key: Key
    offset: int
    """Where the batch first speaks of it."""
    events: list[E]
    waiting: dict[int, Waiting]
    """Position in `events` → who waits for its verdict."""
    at_ms: int = 0
    """When the first of its records arrived, by the broker's clock: the same at every replay."""
    priced_anew: bool = False
    """It is to be priced anew, whatever else is said of it."""


class Folded(NamedTuple, Generic[E]):
    """A batch, grouped: by hash of the key in order of first sight, and what could not be read."""

    groups: dict[bytes, Group[E]]
    dead: list[DeadLetter]


def fold(
    records: Sequence[ConsumedRecord], read: Callable[[bytes | None], E], key_of: Callable[[E], Key]
) -> Folded[E]:
    """Read every record and group what they say by key; where `read` raises `InvalidEvent`, a dead letter."""
    by_key: dict[Key, Group[E]] = {}
    dead: list[DeadLetter] = []
    for record in records:
        waiting = _waiting(record.headers) if record.headers else None
        try:
            event = read(record.value)
        except InvalidEvent as exc:
            digest = hashlib.sha256(record.value or b"").hexdigest()
            dead.append(DeadLetter(record.offset, exc.stable_code, digest, waiting))
            continue
        key = key_of(event)
        group = by_key.get(key)
        if record.headers and REPRICE in dict(record.headers):
            if group is None:
                group = by_key[key] = Group(key, record.offset, [], {}, record.timestamp)
            group.priced_anew = True  # and the event itself says nothing
            continue
        if group is None:
            group = by_key[key] = Group(key, record.offset, [event], {}, record.timestamp)
        else:
            group.events.append(event)
        if waiting is not None:
            group.waiting[len(group.events) - 1] = waiting
    return Folded({call_hash(*key): group for key, group in by_key.items()}, dead)


def fingerprint(records: Sequence[ConsumedRecord]) -> str:
    """Return the identity of a run of records: a digest of its first and last, arrival times included.

    A topic that was made anew starts again at offset 0, but its records arrived at other times:
    so neither a claim nor a token of the old topic can ever be taken for one of the new.
    """
    digest = hashlib.blake2b(digest_size=12)
    for record in (records[0], records[-1]):
        digest.update(b"%d:%d:%b:" % (record.offset, record.timestamp, record.key or b""))
        digest.update(record.value or b"")
    return digest.hexdigest()


def _waiting(headers: Sequence[tuple[str, bytes]]) -> Waiting | None:
    named = dict(headers)
    try:
        waiting = Waiting(named["reply-to"], named["batch"].decode(), int(named["index"]))
    except (AttributeError, KeyError, TypeError, ValueError):  # a header may have no value at all
        return None
    return waiting if 0 <= waiting.position < _MAX_POSITION else None
