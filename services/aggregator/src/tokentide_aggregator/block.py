"""The block: what a folded batch adds to the ledger and takes back from it. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from tokentide_aggregator.fold import Group
from tokentide_aggregator.ledger import Block, Change, Verdict
from tokentide_aggregator.rows import (
    LedgerRow,
    encode_row,
    is_plain,
    plain_row,
    row_of_state,
    state_of_row,
    taken_back,
)
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State, add, merged

Price = Callable[[UsageEvent], int | None]
"""Cost of a merged record in nano-dollars; None: no price is known."""


FoldedCall = Group[UsageEvent]
_SEEN_ROW: Final = struct.Struct("<16sIq")


def build(
    calls: Mapping[bytes, FoldedCall], known: Mapping[bytes, LedgerRow], price: Price, price_version: str
) -> Block:
    """Join each call with what is known of it and return what changes.

    The order is that of first sight and every row has one canonical form, so that a replay of the same
    records over the same `known` gives the same bytes.
    """
    changes: list[Change] = []
    verdicts: list[Verdict] = []
    days: set[tuple[str, int]] = set()
    for call, folded in calls.items():
        old = known.get(call)
        first = folded.events[0]
        if old is None and len(folded.events) == 1 and is_plain(first):
            row = plain_row(first, price(first), price_version, 1)
            changes.append(Change(call, _index_row(call, 1, first.occurred_at), row, None))
            days.add((first.org_id, first.occurred_at.toordinal()))
            if folded.waiting:
                verdicts.append(Verdict(folded.waiting[0], "counted"))
            continue
        before: State = {} if old is None else state_of_row(old)
        state, said = _joined(before, folded)
        verdicts.extend(said)
        if state == before:
            continue
        occurred_at, change = _change(call, old, state, price, price_version)
        changes.append(change)
        days.add((first.org_id, occurred_at.toordinal()))
        if old is not None:
            days.add((first.org_id, old.occurred_at.toordinal()))
    return Block(changes, verdicts, days)


def _joined(state: State, folded: FoldedCall) -> tuple[State, list[Verdict]]:
    """Join a call's events one by one, so that each gets the verdict of its own effect."""
    verdicts = []
    for position, event in enumerate(folded.events):
        before, state = state, add(state, event)
        waiting = folded.waiting.get(position) if folded.waiting else None
        if waiting is not None:
            verdict = "counted" if not before else "duplicate" if state is before else "upgraded"
            verdicts.append(Verdict(waiting, verdict))
    return state, verdicts


def _change(
    call: bytes, old: LedgerRow | None, state: State, price: Price, price_version: str
) -> tuple[datetime, Change]:
    version = 1 if old is None else old.version + 1
    back = None if old is None else taken_back(old)
    if len(state) == 1:
        (event,) = state.values()
        if is_plain(event):
            row = plain_row(event, price(event), price_version, version)
            index = _index_row(call, version, event.occurred_at)
            return event.occurred_at, Change(call, index, row, back)
    record, token_source = merged(state)
    whole = row_of_state(
        state,
        record,
        token_source=token_source,
        cost_nano=price(record),
        price_version=price_version,
        version=version,
    )
    index = _index_row(call, version, whole.occurred_at)
    return whole.occurred_at, Change(call, index, encode_row(whole), back)


def _index_row(call: bytes, version: int, occurred_at: datetime) -> bytes:
    return _SEEN_ROW.pack(call, version, round(occurred_at.timestamp() * 1000))
