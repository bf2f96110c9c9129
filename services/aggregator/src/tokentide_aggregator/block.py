"""The block: what a folded batch adds to the ledger and takes back from it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from tokentide_aggregator.fold import FoldedCall, Waiting
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


class CallChange(msgspec.Struct, gc=False):
    """What one call contributes to a block."""

    call: bytes
    version: int
    occurred_at: datetime
    row: bytes
    """The +1 row."""
    taken_back: bytes | None
    """The -1 row of an upgraded call; it goes before the +1 row."""


class Verdict(NamedTuple):
    """What became of an event whose sender waits."""

    waiting: Waiting
    verdict: str


class Block(NamedTuple):
    """Everything a batch changes."""

    changes: list[CallChange]
    verdicts: list[Verdict]
    days: set[tuple[str, int]]
    """(org_id, ordinal of the UTC day) whose numbers change."""


def build(
    calls: Mapping[bytes, FoldedCall], known: Mapping[bytes, LedgerRow], price: Price, price_version: str
) -> Block:
    """Join each call with what is known of it and return what changes.

    The order is that of first sight and every row has one canonical form, so that a replay of the same
    records over the same `known` gives the same bytes.
    """
    changes: list[CallChange] = []
    verdicts: list[Verdict] = []
    days: set[tuple[str, int]] = set()
    for call, folded in calls.items():
        old = known.get(call)
        first = folded.events[0]
        if old is None and len(folded.events) == 1 and is_plain(first):
            row = plain_row(first, price(first), price_version, 1)
            changes.append(CallChange(call, 1, first.occurred_at, row, None))
            days.add((first.org_id, first.occurred_at.toordinal()))
            if folded.waiting:
                verdicts.append(Verdict(folded.waiting[0], "counted"))
            continue
        before: State = {} if old is None else state_of_row(old)
        state, said = _joined(before, folded)
        verdicts.extend(said)
        if state == before:
            continue
        change = _change(call, old, state, price, price_version)
        changes.append(change)
        days.add((first.org_id, change.occurred_at.toordinal()))
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


def _change(call: bytes, old: LedgerRow | None, state: State, price: Price, price_version: str) -> CallChange:
    version = 1 if old is None else old.version + 1
    back = None if old is None else taken_back(old)
    if len(state) == 1:
        (event,) = state.values()
        if is_plain(event):
            row = plain_row(event, price(event), price_version, version)
            return CallChange(call, version, event.occurred_at, row, back)
    record, token_source = merged(state)
    whole = row_of_state(
        state,
        record,
        token_source=token_source,
        cost_nano=price(record),
        price_version=price_version,
        version=version,
    )
    return CallChange(call, version, whole.occurred_at, encode_row(whole), back)
