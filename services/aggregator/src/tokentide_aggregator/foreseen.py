"""A row of the ledger without reading it all, where an event differs from it in output tokens alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tokentide_aggregator.counted_call import Indexed, only_observation
from tokentide_aggregator.rows import LedgerRow, decode_row, is_plain, plain_row
from tokentide_common.events import UsageEvent


class Priced(msgspec.Struct, array_like=True, gc=False):
    """What the ledger itself must tell of a row: which it is, its price, and its digest."""

    org_id: str
    call_id: str
    version: int
    cost_nano: int
    unpriced: bool
    price_version: str
    digest: int


def foreseen_event(events: Sequence[UsageEvent], indexed: Indexed) -> UsageEvent | None:
    """Return the one observation that a call's row was made of, as events and the index tell it.

    What a log says of an answer while it streams, and what it says at the end, differ in output tokens alone:
    then the event, with the output that the index holds, is what the row was made of.
    """
    for event in events:
        before = only_observation(event, indexed)
        if before is not None and is_plain(before):
            return before
    return None


def foreseen_row(before: UsageEvent, priced: Priced) -> LedgerRow | None:
    """Return the ledger's row of a call, if it was made of that observation at that price.

    The price is what the ledger has, since another process, or this one with an older list, may have written
    the row. The guarantee: its digest covers every byte of the row, so only the row itself is returned.
    """
    cost_nano = None if priced.unpriced else priced.cost_nano
    row = decode_row(plain_row(before, cost_nano, priced.price_version, priced.version))
    return row if row.digest == priced.digest else None
