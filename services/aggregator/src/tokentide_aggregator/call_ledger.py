"""The ledger of calls: usage events become calls, a call one row and, once upgraded, another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from tokentide_aggregator import counted_call
from tokentide_aggregator.block import FoldedCall, build
from tokentide_aggregator.counted_call import CountedCall, millis
from tokentide_aggregator.fold import ConsumedRecord, Folded, fold
from tokentide_aggregator.known import IsGone, known_calls
from tokentide_aggregator.ledger import Block, Change
from tokentide_aggregator.rows import decode_row
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST, MAX_COUNT, UsageEvent, decode_wire_event
from tokentide_common.merge import canonical
from tokentide_common.pricing.call_price import Price
from tokentide_common.store import Store
from tokentide_common.topics import USAGE

# A clock further ahead than this is a mistake whatever today is: the bound must not depend on "now",
# or a replay could judge a record differently.
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_key_of: Final = attrgetter("org_id", "call_id")


class CallLedger:
    """Calls: joined by the merge, priced, one row a state."""

    table = "ledger"
    index = "seen"

    def __init__(
        self,
        price: Price,
        price_version: str,
        *,
        topic: str = USAGE,
        is_gone: IsGone = lambda _org_id, _ms, _at_ms: False,
    ) -> None:
        self.topic = topic
        self._is_gone = is_gone
        self._price = price
        self._price_version = price_version

    def fold(self, records: Sequence[ConsumedRecord]) -> Folded[UsageEvent]:
        """Decode every record and group the events by call."""
        return fold_calls(records)

    async def known(self, store: Store, asked: Mapping[bytes, FoldedCall]) -> dict[bytes, CountedCall]:
        """Return what is known of the calls that are counted."""
        return await known_calls(store, asked, self._is_gone)

    def keep(self, change: Change) -> bytes:
        """Return the call's rows as they are in index and ledger."""
        return counted_call.kept(change.index, change.row)

    def recall(self, kept: bytes, asked: FoldedCall) -> CountedCall:
        """Return what was kept, read."""
        observed_ms, digests, raw = counted_call.recalled(kept)
        row = decode_row(raw)
        # As the look-up answers, which a replay asks: memory has rows that the store may have deleted.
        gone = self._is_gone(row.org_id, millis(row.occurred_at), asked.at_ms)
        return CountedCall(None if gone else row, observed_ms, digests)

    def build(self, groups: Mapping[bytes, FoldedCall], known: Mapping[bytes, CountedCall]) -> Block:
        """Join each call with what is known of it."""
        return build(groups, known, self._price, self._price_version)

    def days(self, changes: Sequence[Change]) -> set[tuple[str, int]]:
        """Return the days of all rows, those taken back included."""
        lines = [
            line
            for change in changes
            for rows in (change.taken_back, change.row)
            if rows is not None
            for line in rows.split(b"\n")
        ]
        return {(row.org_id, row.occurred_at.toordinal()) for row in map(decode_row, lines)}


def fold_calls(records: Sequence[ConsumedRecord]) -> Folded[UsageEvent]:
    """Decode every record and group the events by call; unreadable ones become dead letters."""
    return fold(records, _event, _key_of)


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
