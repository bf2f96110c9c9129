"""What follows from several calls together: people for calls that telemetry did not see, calls without ids.

It is published as observations of the calls concerned, so that it is counted, repeated and reordered like any
other. A statement of telemetry about a session is kept as a fact in `session_links`, a set.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tokentide_aggregator.aliases import passed_on, records_of
from tokentide_aggregator.nameless_calls import pairs
from tokentide_aggregator.rows import decode_row, state_of_row
from tokentide_aggregator.session_book import SessionBook
from tokentide_aggregator.session_facts import (
    NAMELESS,
    SessionFact,
    SessionKey,
    is_logged_alone,
    lacks_person,
    nameless_fact,
    person_fact,
    person_of,
    session_of,
)
from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State
from tokentide_common.store import Store

_REMEMBERED: Final = 100_000
_PIECE: Final = 500


class Concluded(NamedTuple):
    """What a block leads to: records to publish, and facts that are settled once they are."""

    records: Sequence[Record] = ()
    facts: Sequence[SessionFact] = ()


class _Noticed(NamedTuple):
    """What the calls of a block ask for."""

    facts: list[SessionFact]
    """Said by telemetry and, as far as we remember, not settled yet."""
    unnamed: dict[SessionKey, list[State]]
    """Calls without a person of their own."""
    logged: set[SessionKey]
    """Sessions of calls that only the log knows."""
    nameless: set[SessionKey]
    """Sessions of calls that telemetry names by no id."""


class Links:
    """Draws conclusions from stored blocks; shared by all partitions."""

    def __init__(self, store: Store) -> None:
        self._book = SessionBook(store)
        self._settled: dict[SessionFact, None] = {}

    async def conclude(self, states: Sequence[State], events: Iterable[UsageEvent]) -> Concluded:
        """Return what follows from calls that are stored, `seen` included, and from what was said of them."""
        noticed = await asyncio.to_thread(self._notice, states, events)
        if not (noticed.facts or noticed.unnamed or noticed.logged or noticed.nameless):
            return Concluded()
        if noticed.facts:
            await self._book.write(noticed.facts)
        # Our own calls and facts are written, and only now the others' are read: of two aggregators that meet
        # the two sides of a link at the same time, at least the one that reads last finds both.
        said_now = {fact.session for fact in noticed.facts}
        facts = await self._book.facts(said_now | noticed.unnamed.keys() | noticed.logged)
        searched = {s for s in noticed.logged if any(f.kind == NAMELESS for f in facts.get(s, ()))}
        searched |= said_now | noticed.nameless
        calls = await self._book.calls(searched)
        calls += [state for s, some in noticed.unnamed.items() if s not in searched for state in some]
        found = await asyncio.to_thread(conclusions, calls, facts)
        return Concluded(records_of(found), noticed.facts)

    async def conclude_rows(self, rows: Sequence[bytes]) -> Concluded:
        """Return what follows from stored rows, with what those of them pass on that are other calls."""
        states = [state_of_row(decode_row(row)) for row in rows]
        moved = [event for state in states for event in passed_on(state)]
        concluded = await self.conclude(states, [event for state in states for event in state.values()])
        return Concluded([*records_of(moved), *concluded.records], concluded.facts)

    async def repair(self) -> list[Concluded]:
        """Conclude everything again, for a broker that forgot what was published before the last crash."""
        sessions = await self._book.sessions()
        found = []
        for start in range(0, len(sessions), _PIECE):
            piece = sessions[start : start + _PIECE]
            states = await self._book.calls(piece)
            moved = [event for state in states for event in passed_on(state)]
            events = [*moved, *conclusions(states, await self._book.facts(piece))]
            found.append(Concluded(records_of(events)))
        return found

    def settle(self, concluded: Concluded) -> None:
        """Take note that the conclusions are published: from now on the facts need no search of their own.

        Not earlier: after a crash in between, whoever repeats the block must search again.
        """
        self._settled |= dict.fromkeys(concluded.facts)
        while len(self._settled) > _REMEMBERED:
            del self._settled[next(iter(self._settled))]

    def _notice(self, states: Sequence[State], events: Iterable[UsageEvent]) -> _Noticed:
        facts = {fact for event in events if (fact := person_fact(event)) is not None}
        unnamed: dict[SessionKey, list[State]] = defaultdict(list)
        logged, nameless = set(), set()
        for state in states:
            session = session_of(state)
            if session is None:
                continue
            if lacks_person(state):
                unnamed[session].append(state)
            if (fact := nameless_fact(state)) is not None:
                facts.add(fact)
                nameless.add(session)
            elif is_logged_alone(state):
                logged.add(session)
        new = [fact for fact in sorted(facts) if fact not in self._settled]
        return _Noticed(new, unnamed, logged, nameless)


def conclusions(
    states: Sequence[State], facts: Mapping[SessionKey, Sequence[SessionFact]]
) -> list[UsageEvent]:
    """Return what calls and the facts of their sessions amount to."""
    found = pairs(states)
    for state in states:
        session = session_of(state)
        if session is not None and lacks_person(state):
            person = person_of(state, facts.get(session, ()))
            if person is not None:
                found.append(person)
    return found
