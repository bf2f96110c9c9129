"""The request to price a counted call anew: a record on the topic of usage that says nothing of the call."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent, encode_event

REPRICE: Final = "reprice"
"""The header of such a record. Only who writes to the topic sets one: no door passes headers on."""


def reprice_record(org_id: str, call_id: str, occurred_at: datetime) -> Record:
    """Return the request for one call, keyed like everything that is said of it."""
    # For an aggregator that does not know the header it is a link to nothing, which adds nothing.
    nothing = UsageEvent(call_id=call_id, source="link", org_id=org_id, occurred_at=occurred_at)
    return Record(call_id.encode(), encode_event(nothing), [(REPRICE, b"1")])
