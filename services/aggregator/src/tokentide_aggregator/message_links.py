"""One call under the id of its answer and under that of its request, which only some sources know.

A span knows `msg_…` alone, a log or the proxy that and `req_…`. Whoever comes second finds the other in the
store: what the span tells goes on to the other, and is counted there alone. Several requests can be said
to have one message; each is told, and they stay several.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from msgspec.structs import replace

from tokentide_aggregator.aliases import link, passed_to
from tokentide_aggregator.fold import Key
from tokentide_aggregator.message_book import MessageBook, Pair
from tokentide_aggregator.notice import Bridge
from tokentide_common.errors import Unavailable
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State, add
from tokentide_common.retry import until_available
from tokentide_common.store import Store

_PIECE: Final = 500


class MessageLinks:
    """Finds, for what a block says of messages, what other blocks said of them."""

    def __init__(self, store: Store) -> None:
        self._book = MessageBook(store)

    async def write(self, messages: Mapping[Key, datetime]) -> None:
        """Make calls that are known by their messages alone known to whoever knows more."""
        if messages:
            await self._book.write(messages)

    async def owed(
        self, messages: Mapping[Key, datetime], bridges: Mapping[str, Sequence[Bridge]]
    ) -> list[UsageEvent]:
        """Return what calls still owe each other; both sides must have written theirs before they ask."""
        pairs: set[Pair] = set()
        if messages:
            pairs |= await self._book.of_messages(messages)
        if bridges:
            pairs |= await self._book.of_bridges(bridges)
        return await self._between(pairs)

    async def all_owed(self) -> list[UsageEvent]:
        """Return what any calls owe each other."""
        return await self._between(await self._book.all_pairs())

    async def _between(self, pairs: Collection[Pair]) -> list[UsageEvent]:
        found: list[UsageEvent] = []
        ordered = sorted(pairs)
        for start in range(0, len(ordered), _PIECE):
            piece = ordered[start : start + _PIECE]
            states = await until_available("links", partial(self._states, piece))
            for org_id, message, call in piece:
                found += owed(states[org_id, message], call, states.get((org_id, call), {}))
        return found

    async def _states(self, pairs: Sequence[Pair]) -> Mapping[Key, State]:
        messages = {(org_id, message) for org_id, message, _ in pairs}
        states = await self._book.states(messages | {(org_id, call) for org_id, _, call in pairs})
        if not messages <= states.keys():
            # Written before they were made known: a replica that lags.
            raise Unavailable("the ledger lags behind the calls known by messages", code="ledger_lags")
        return states


def owed(message: State, call_id: str, call: State) -> list[UsageEvent]:
    """Return what a call that is known by its message alone has not told another yet, and that it is that.

    What is published and not counted yet is told again, which changes nothing.
    """
    at = min(event.occurred_at for event in message.values())
    first = replace(next(iter(message.values())), occurred_at=at, observed_at=at)
    alias = link(first, first.call_id, call_id)
    told = [part for part in passed_to(call_id, message) if _is_news(call, part)]
    return [alias, *told] if _is_news(message, alias) else told


def _is_news(state: State, event: UsageEvent) -> bool:
    return add(state, event) is not state
