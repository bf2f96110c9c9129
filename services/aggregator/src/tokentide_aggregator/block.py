"""The block: what a folded batch adds to the ledger and takes back from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce

from tokentide_aggregator.aliases import directed, other_links, passed_on, records_of
from tokentide_aggregator.counted_call import (
    NOTHING_TOLD,
    CountedCall,
    entry,
    index_row,
    joined,
    latest_ms,
)
from tokentide_aggregator.fold import Group
from tokentide_aggregator.ledger import Block, Change, Verdict
from tokentide_aggregator.notice import Notice
from tokentide_aggregator.rows import (
    encode_row,
    is_plain,
    plain_row,
    plain_row_of,
    row_of_state,
    state_of_row,
    taken_back,
)
from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.identity import call_hash
from tokentide_common.merge import State, add, merged
from tokentide_common.pricing.call_price import Price

FoldedCall = Group[UsageEvent]


def build(
    calls: Mapping[bytes, FoldedCall], known: Mapping[bytes, CountedCall], price: Price, price_version: str
) -> Block:
    """Join each call with what is known of it and return what changes.

    The order is that of first sight and every row has one canonical form, so that a replay of the same
    records over the same `known` gives the same bytes.
    """
    changes: list[Change] = []
    verdicts: list[Verdict] = []
    days: set[tuple[str, int]] = set()
    noticed, repeated = Notice(), Notice()
    follow: list[Record] = []
    ahead: list[Record] = []
    for call, folded in calls.items():
        counted = known.get(call)
        if counted is None and not folded.events:
            continue  # it is to be priced anew, and was never counted
        first = _only(folded) if counted is None else None
        if first is not None:
            changes.append(_first_change(call, first, price, price_version))
            noticed.take_first(first)
            days.add((first.org_id, first.occurred_at.toordinal()))
            if folded.waiting:
                verdicts.append(Verdict(folded.waiting[0], "counted"))
            continue
        for event in folded.events:
            noticed.hear(event)
        if (
            counted is not None and counted.row is None
        ):  # the index alone answers, as if all of it were repeats
            verdicts.extend(Verdict(waiting, "duplicate") for waiting in folded.waiting.values())
            if folded.events:
                repeated.take(reduce(add, folded.events, {}))
                repeated.meet(folded.events)
            continue
        old = None if counted is None else counted.row
        before: State = {} if old is None else state_of_row(old)
        state, said, links = _joined(before, folded)
        noticed.take(state)
        noticed.meet(folded.events)
        # From every batch that speaks of a call that is another one, also where nothing changes: what a crash
        # kept from being published is published by the replay.
        moved = passed_on(state)
        follow += records_of(moved, folded.waiting.values())
        ahead += records_of(links)
        if not moved:  # else whoever waits hears from the call that counts
            verdicts.extend(said)
        # The guarantee: whether a row is written must not depend on the prices of this process. Another one
        # may repeat the batch with other prices, over what this one has written under the same token.
        if state == before and not (old is not None and folded.priced_anew):
            continue
        occurred_at, change = _change(counted, folded, state, price, price_version)
        changes.append(change)
        org_id, _ = folded.key
        days.add((org_id, occurred_at.toordinal()))
        if old is not None:
            days.add((org_id, old.occurred_at.toordinal()))
    return Block(changes, verdicts, days, noticed=noticed, repeated=repeated, follow=follow, ahead=ahead)


def _only(folded: FoldedCall) -> UsageEvent | None:
    """Return the one plain observation that a batch has of a call, if that is all it has."""
    event = folded.events[0]
    plain = len(folded.events) == 1 and not event.same_as and is_plain(event)
    return event if plain else None


def _joined(state: State, folded: FoldedCall) -> tuple[State, list[Verdict], list[UsageEvent]]:
    """Join a call's events one by one, so that each gets the verdict of its own effect.

    The last of what is returned are links that the events say of other calls.
    """
    verdicts, known = [], state
    events, links = directed(folded.events)
    for position, event in enumerate(events):
        before, state = state, add(state, event)
        waiting = folded.waiting.get(position) if folded.waiting else None
        if waiting is not None:
            verdict = "counted" if not before else "duplicate" if state is before else "upgraded"
            verdicts.append(Verdict(waiting, verdict))
    return state, verdicts, [*links, *other_links(events, known, state)]


def _first_change(call: bytes, event: UsageEvent, price: Price, price_version: str) -> Change:
    encoded = encode_event(event)
    row = plain_row_of(event, encoded, price(event), price_version, 1)
    index = index_row(call, 1, event.occurred_at, latest_ms(event), entry(event, encoded))
    return Change(call, index, row, None)


def _change(
    counted: CountedCall | None, folded: FoldedCall, state: State, price: Price, price_version: str
) -> tuple[datetime, Change]:
    old = None if counted is None else counted.row
    version = 1 if old is None else old.version + 1
    record, row = _record_and_row(state, price, price_version, version)
    # What is counted under another id must be told there whatever repeats it: it is looked up every time.
    told = NOTHING_TOLD if record.same_as else joined(counted, folded.events)
    call = call_hash(*folded.key)
    back = None if old is None else taken_back(old)
    return record.occurred_at, Change(call, index_row(call, version, record.occurred_at, *told), row, back)


def _record_and_row(state: State, price: Price, price_version: str, version: int) -> tuple[UsageEvent, bytes]:
    if len(state) == 1:
        (event,) = state.values()
        if is_plain(event):
            return event, plain_row(event, price(event), price_version, version)
    record, token_source = merged(state)
    row = row_of_state(
        state,
        record,
        token_source=token_source,
        cost_nano=price(record),
        price_version=price_version,
        version=version,
    )
    return record, encode_row(row)
