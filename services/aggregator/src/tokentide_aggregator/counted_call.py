"""What the index says of a counted call, and which repeats it answers without a look at the ledger. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import xxhash

from tokentide_aggregator.rows import LedgerRow
from tokentide_common.events import UsageEvent, encode_event

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INDEX_ROW: Final = struct.Struct("<16sIqqB")
_DIGEST_BYTES: Final = 8
# Enough for each source once and for a log line that grew. Of more the newest stay: they are sent again.
_MOST_BYTES: Final = 4 * _DIGEST_BYTES
_TIME_KEY: Final = b',"observed_at":"'
NOTHING_TOLD: Final = (0, b"")
"""`observed_ms` and digests of a call whose repeats the index must not answer."""


class CountedCall(msgspec.Struct, gc=False):
    """A counted call; without its row where the index alone says that the batch has nothing new."""

    row: LedgerRow | None
    observed_ms: int = 0
    """No observation behind `digests` was made later."""
    digests: bytes = b""


def digest(encoded: bytes) -> bytes:
    """Return the digest of a canonical observation, encoded, but for when it was made.

    A door stamps that where a source does not say it, so it differs in every repeat.
    Not cryptographic: digests of one call alone are compared, and who could craft two observations of a call
    that collide could as well send only one of them.
    """
    # The first such key is the event's own: only identity, source and time go before it, and a quote inside
    # a text is escaped.
    start = encoded.index(_TIME_KEY)
    end = encoded.index(b'"', start + len(_TIME_KEY))
    return xxhash.xxh3_64_digest(encoded[:start] + encoded[end:])


def index_row(call: bytes, version: int, occurred_at: datetime, observed_ms: int, digests: bytes) -> bytes:
    """Return a call's row of the index, in RowBinary."""
    return _INDEX_ROW.pack(call, version, millis(occurred_at), observed_ms, len(digests)) + digests


def kept(index: bytes, row: bytes) -> bytes:
    """Return what memory keeps of a call."""
    return index + row


def recalled(kept: bytes) -> tuple[int, bytes, bytes]:
    """Return `observed_ms`, digests and row of what memory kept."""
    *_, observed_ms, size = _INDEX_ROW.unpack_from(kept)
    end = _INDEX_ROW.size + size
    return observed_ms, kept[_INDEX_ROW.size : end], kept[end:]


def says_nothing_new(events: Sequence[UsageEvent], observed_ms: int, digests: bytes) -> bool:
    """Tell whether every event repeats an observation that the call already holds.

    One that was made earlier than they were could still move the call to an earlier sight of it.
    """
    held = set(_each(digests))
    return all(
        latest_ms(event) >= observed_ms and not is_link(event) and digest(encode_event(event)) in held
        for event in events
    )


def joined(old: CountedCall | None, events: Sequence[UsageEvent]) -> tuple[int, bytes]:
    """Return `observed_ms` and digests after more observations.

    The order is that of offset, so that a replay gives the same.
    """
    found = {} if old is None else dict.fromkeys(_each(old.digests))
    found |= dict.fromkeys(digest(encode_event(event)) for event in events if not is_link(event))
    latest = max(map(latest_ms, events), default=0)
    return max(latest, 0 if old is None else old.observed_ms), b"".join(found)[-_MOST_BYTES:]


def is_link(event: UsageEvent) -> bool:
    """Tell whether an event says more than about its own call: then its call must always be looked up."""
    return event.source == "link" or bool(event.same_as)


def latest_ms(event: UsageEvent) -> int:
    """Return when a canonical event was observed."""
    return millis(event.observed_at or event.occurred_at)


def millis(moment: datetime) -> int:
    """Return milliseconds since 1970."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _each(digests: bytes) -> Iterator[bytes]:
    return (digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES))
