"""Folding: what a batch of records says, grouped by call. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from tokentide_aggregator.known import CallKey
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST, MAX_COUNT, UsageEvent, decode_wire_event
from tokentide_common.identity import call_hash
from tokentide_common.merge import canonical

# A clock further ahead than this is a mistake whatever today is: the bound must not depend on "now",
# or a replay could judge a record differently.
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
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


class FoldedCall(msgspec.Struct, gc=False):
    """All that a batch says of one call, in order of offset."""

    key: CallKey
    offset: int
    """Where the batch first speaks of it."""
    events: list[UsageEvent]
    waiting: dict[int, Waiting]
    """Position in `events` → who waits for its verdict."""


class Folded(NamedTuple):
    """A batch, grouped: calls by hash in order of first sight, and what could not be read."""

    calls: dict[bytes, FoldedCall]
    dead: list[DeadLetter]


def fold(records: Sequence[ConsumedRecord]) -> Folded:
    """Decode every record and group the events by call; unreadable ones become dead letters."""
    by_key: dict[CallKey, FoldedCall] = {}
    dead: list[DeadLetter] = []
    for record in records:
        waiting = _waiting(record.headers) if record.headers else None
        try:
            event = _event(record.value)
        except InvalidEvent as exc:
            digest = hashlib.sha256(record.value or b"").hexdigest()
            dead.append(DeadLetter(record.offset, exc.stable_code, digest, waiting))
            continue
        key = (event.org_id, event.call_id)
        call = by_key.get(key)
        if call is None:
            call = by_key[key] = FoldedCall(key, record.offset, [event], {})
        else:
            call.events.append(event)
        if waiting is not None:
            call.waiting[len(call.events) - 1] = waiting
    return Folded({call_hash(*key): call for key, call in by_key.items()}, dead)


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


def _event(value: bytes | None) -> UsageEvent:
    if value is None:
        raise InvalidEvent("a tombstone is not an event", code="empty_record")
    event = decode_wire_event(value)
    if not event.org_id:
        raise InvalidEvent("no organisation was stamped on the event", code="no_organization")
    # Checked before anything is done with them: what the doors let through must not end the process here.
    for moment in (event.occurred_at, event.observed_at, event.session_started_at):
        if moment is not None and not EARLIEST <= moment < _LATEST:
            raise InvalidEvent("a time is out of range", code="timestamp_out_of_range")
    if canonical(event).cache_write_tokens > MAX_COUNT:
        # It could be written beside other observations, but never be read back.
        raise InvalidEvent("the cache writes together are out of range", code="unreadable_record")
    return event


def _waiting(headers: Sequence[tuple[str, bytes]]) -> Waiting | None:
    named = dict(headers)
    try:
        waiting = Waiting(named["reply-to"], named["batch"].decode(), int(named["index"]))
    except (AttributeError, KeyError, TypeError, ValueError):  # a header may have no value at all
        return None
    return waiting if 0 <= waiting.position < _MAX_POSITION else None
