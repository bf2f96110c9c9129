"""What the index says of a counted call, and which repeats it answers without a look at the ledger. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import xxhash
from msgspec.structs import replace

from tokentide_aggregator.rows import LedgerRow
from tokentide_common.events import UsageEvent, encode_event

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INDEX_ROW: Final = struct.Struct("<16sIqqB")
_ENTRY: Final = struct.Struct("<8sI")
# Enough for each source once and for a log line that changed. Of more the newest stay: they are sent again.
_MOST_ENTRIES: Final = 4
DIGESTS_BYTES: Final = _MOST_ENTRIES * _ENTRY.size
"""No call has more."""
_MOST_TOKENS: Final = (1 << 32) - 1
_TIME_KEY: Final = b',"observed_at":"'
NOTHING_TOLD: Final = (0, b"")
"""`observed_ms` and digests of a call whose repeats the index must not answer."""


class Indexed(NamedTuple):
    """What the index says of a call: the state that counts."""

    version: int
    occurred_ms: int
    observed_ms: int
    digests: bytes


class CountedCall(msgspec.Struct, gc=False):
    """A counted call; without its row where the index alone says that the batch has nothing new."""

    row: LedgerRow | None
    observed_ms: int = 0
    """No observation behind `digests` was made later."""
    digests: bytes = b""


def entry(event: UsageEvent, encoded: bytes) -> bytes:
    """Return what the index keeps of a canonical observation: a digest of its text, and its output tokens.

    Not in the digest: the output tokens, and when it was made. A door stamps that where a source does not
    say it, so it differs in every repeat. Not cryptographic: digests of one call alone are compared, and who
    could craft two observations of a call that collide could as well send only one of them.
    """
    # The first such keys are the event's own: only identity, source and time go before its time, a quote
    # inside a text is escaped, and a tag is a text, no number.
    start = encoded.index(_TIME_KEY)
    end = encoded.index(b'"', start + len(_TIME_KEY))
    rest = encoded[end:].replace(b',"output_tokens":%d' % event.output_tokens, b"", 1)
    return _ENTRY.pack(xxhash.xxh3_64_digest(encoded[:start] + rest), min(event.output_tokens, _MOST_TOKENS))


def index_row(call: bytes, version: int, occurred_at: datetime, observed_ms: int, digests: bytes) -> bytes:
    """Return a call's row of the index, in RowBinary."""
    return _INDEX_ROW.pack(call, version, millis(occurred_at), observed_ms, len(digests)) + digests


def only_observation(event: UsageEvent, indexed: Indexed) -> UsageEvent | None:
    """Return the one observation that the index has of a call, where an event differs in output alone.

    It may have been made earlier: of the time the index says only that nothing was observed later.
    """
    if len(indexed.digests) != _ENTRY.size or is_link(event):
        return None
    rest, output = _ENTRY.unpack(indexed.digests)
    if _ENTRY.unpack(entry(event, encode_event(event)))[0] != rest:
        return None
    observed_at = _EPOCH + timedelta(milliseconds=indexed.observed_ms)
    return replace(event, output_tokens=output, observed_at=observed_at)


def kept(index: bytes, row: bytes) -> bytes:
    """Return what memory keeps of a call."""
    return index + row


def recalled(kept: bytes) -> tuple[int, bytes, bytes]:
    """Return `observed_ms`, digests and row of what memory kept."""
    *_, observed_ms, size = _INDEX_ROW.unpack_from(kept)
    end = _INDEX_ROW.size + size
    return observed_ms, kept[_INDEX_ROW.size : end], kept[end:]


def says_nothing_new(events: Sequence[UsageEvent], observed_ms: int, digests: bytes) -> bool:
    """Tell whether every event repeats an observation that the call already holds, or an older state of it.

    The guarantee: of two observations that differ in output alone, the join is the one with more. One that
    was made earlier than they were could still move the call to an earlier sight of it.
    """
    held = _held(digests)
    return all(
        latest_ms(event) >= observed_ms and not is_link(event) and _within(event, held) for event in events
    )


def joined(old: CountedCall | None, events: Sequence[UsageEvent]) -> tuple[int, bytes]:
    """Return `observed_ms` and digests after more observations.

    The order is that of offset, so that a replay gives the same.
    """
    found = {} if old is None else _held(old.digests)
    for event in events:
        if not is_link(event):
            rest, output = _ENTRY.unpack(entry(event, encode_event(event)))
            found[rest] = max(output, found.pop(rest, 0))  # the newest last
    latest = max(map(latest_ms, events), default=0)
    kept = b"".join([_ENTRY.pack(rest, output) for rest, output in found.items()][-_MOST_ENTRIES:])
    return max(latest, 0 if old is None else old.observed_ms), kept


def _held(digests: bytes) -> dict[bytes, int]:
    """Return digest → the most output tokens; what is no whole entry (of an older form) is passed over."""
    whole = len(digests) - len(digests) % _ENTRY.size
    return dict(_ENTRY.iter_unpack(digests[:whole]))


def _within(event: UsageEvent, held: Mapping[bytes, int]) -> bool:
    rest, _ = _ENTRY.unpack(entry(event, encode_event(event)))
    return rest in held and event.output_tokens <= held[rest]


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
