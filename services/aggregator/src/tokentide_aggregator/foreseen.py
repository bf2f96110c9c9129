"""A row of the ledger without reading it, where an event differs from it in output tokens alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tokentide_aggregator.counted_call import Indexed, only_observation
from tokentide_aggregator.rows import LedgerRow, decode_row, is_plain, plain_row
from tokentide_common.events import UsageEvent
from tokentide_common.pricing.call_price import Price

Foresee: TypeAlias = Callable[[Sequence[UsageEvent], Indexed], LedgerRow | None]
"""Events of a call, and what the index says of it → what its row may be."""


def foreseen_row(
    price: Price, price_version: str, events: Sequence[UsageEvent], indexed: Indexed
) -> LedgerRow | None:
    """Return what the ledger's row of a call is, if its `digest` is that of the row returned.

    What a log says of an answer while it streams, and what it says at the end, differ in output tokens alone:
    then the event, with the output that the index holds, is what the row was made of. Another process may
    have written the row with other prices, so only the digest that the ledger itself keeps can tell.
    """
    for event in events:
        before = only_observation(event, indexed)
        if before is not None and is_plain(before):
            return decode_row(plain_row(before, price(before), price_version, indexed.version))
    return None
