"""One call under two ids: what is said under the one that is given up goes on to the other. Pure.

Whatever is said of a pair of ids ends in the same place, in any order: links lead down one order of ids, each
id that is given up passes on all it knows, and passing on is a join, so that doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from tokentide_aggregator.fold import Waiting
from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.identity import alias_and_call, message_of
from tokentide_common.merge import State, absorbed_by

# What an observation says of how the call went. Without any of it, it only links: it must not make a call of
# an id that nobody else speaks of, whatever person the key that it came with stands for.
_OF_THE_CALL: Final = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reported_cost_usd"),
    *("duration_ms", "ttft_ms", "http_status", "error_type", "stop_reason"),
)


def directed(events: Iterable[UsageEvent]) -> tuple[list[UsageEvent], list[UsageEvent]]:
    """Return the events with links that lead down only, and the links that must be told to the other id."""
    kept, turned = [], []
    for event in events:
        down = event.same_as and alias_and_call(event.call_id, event.same_as)[1] == event.same_as
        if down and event.same_as != event.call_id:
            kept.append(event)
            continue
        kept.append(replace(event, same_as="") if event.same_as else event)
        if event.same_as and not down:
            turned.append(link(event, event.same_as, event.call_id))
    return kept, turned


def link(event: UsageEvent, call_id: str, same_as: str) -> UsageEvent:
    """Return the statement that one call is another one, as far as `event` tells."""
    return UsageEvent(
        call_id=call_id,
        source="link",
        org_id=event.org_id,
        occurred_at=event.occurred_at,
        observed_at=event.observed_at,
        same_as=same_as,
    )


def passed_on(state: State) -> list[UsageEvent]:
    """Return what a call that is given up passes on to the call that it is; nothing for any other call."""
    target = absorbed_by(state)
    return passed_to(target, state) if target else []


def passed_to(target: str, state: State) -> list[UsageEvent]:
    """Return what a call passes on to a given one."""
    return [
        part
        for event in state.values()
        if event.status != "ok" or any(getattr(event, name) for name in _OF_THE_CALL) or says_who(event)
        for part in _parts(replace(event, call_id=target, same_as=""))
    ]


def says_who(event: UsageEvent) -> bool:
    """Tell whether a conclusion is about a person, were it that a device is nobody's."""
    return event.source == "link" and bool(event.user_email or event.account_id or event.device_id)


def other_links(events: Iterable[UsageEvent], before: State, state: State) -> list[UsageEvent]:
    """Return, where a call was said to be several others, that these are one.

    The state keeps but one of them for each speaker: the others are known now or never again. Not of a call
    that is known by its message alone: several requests can be said to have that, and they stay several.
    """
    target = absorbed_by(state)
    if not target or message_of(next(iter(state.values())).call_id):
        return []
    said = (*before.values(), *state.values(), *events)
    others = {e.same_as: e for e in said if e.same_as and e.same_as != target}
    return [link(event, *alias_and_call(other, target)) for other, event in sorted(others.items())]


def records_of(events: Sequence[UsageEvent], waiting: Iterable[Waiting] = ()) -> list[Record]:
    """Return records for the topic of usage. Whoever waits hears when the last one is counted."""
    records = [Record(event.call_id.encode(), encode_event(event)) for event in events]
    asked = [Record(records[-1].key, records[-1].value, _headers(sender)) for sender in waiting if records]
    return [*records[:-1], *asked] if asked else records


def _parts(event: UsageEvent) -> list[UsageEvent]:
    """Return events whose join is the given one, each in canonical form.

    A joined observation can know a finer split than its tokens hold: said at once, the split would be taken
    for a larger total.
    """
    split = event.cache_write_5m_tokens + event.cache_write_1h_tokens
    if split <= event.cache_write_tokens:
        return [event]
    tokens = replace(event, cache_write_5m_tokens=0, cache_write_1h_tokens=0)
    nothing = {"input_tokens": 0, "cache_read_tokens": 0, "output_tokens": 0}
    return [tokens, replace(event, **nothing, cache_write_tokens=split)]


def _headers(sender: Waiting) -> list[tuple[str, bytes]]:
    return [
        ("reply-to", sender.reply_to),
        ("batch", sender.batch.encode()),
        ("index", b"%d" % sender.position),
    ]
