"""What follows from several calls together: people for calls that telemetry did not see, calls without ids.

It is published as observations of the calls concerned, so that it is counted, repeated and reordered like any
other. A statement of telemetry about a session is kept as a fact in `session_links`, a set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from tokentide_aggregator.aliases import passed_on, records_of
from tokentide_aggregator.message_links import MessageLinks
from tokentide_aggregator.nameless_calls import pairs
from tokentide_aggregator.notice import Notice
from tokentide_aggregator.rows import decode_row, state_of_row
from tokentide_aggregator.series_people import SeriesPeople
from tokentide_aggregator.session_book import SessionBook
from tokentide_aggregator.session_facts import (
    ACCOUNT,
    MESSAGES,
    NAMELESS,
    SessionFact,
    SessionKey,
    Unnamed,
    known_facts,
    person_of,
    subjects,
    tells_who,
)
from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State
from tokentide_common.store import Store

_REMEMBERED: Final = 100_000
# Sessions whose calls are in memory at once.
_PIECE: Final = 100


class Concluded(NamedTuple):
    """What a block leads to: records for calls and for activity, and facts that are settled once they are."""

    records: Sequence[Record] = ()
    facts: Sequence[SessionFact] = ()
    activity: Sequence[Record] = ()


class Whole(NamedTuple):
    """What follows for all calls, and for all activity, of sessions."""

    calls: list[UsageEvent]
    activity: list[Record]


class Links:
    """Draws conclusions from stored blocks; shared by all partitions."""

    def __init__(self, store: Store) -> None:
        self._book = SessionBook(store)
        self._messages = MessageLinks(store)
        self._people = SeriesPeople(store)
        self._settled: dict[bytes, None] = {}
        self._with_messages: set[SessionKey] = set()

    async def conclude(self, notice: Notice) -> Concluded:
        """Return what follows from calls that are stored, `seen` included."""
        if not notice:
            return Concluded()
        await self._messages.write(notice.messages)
        new = self._unsettled(
            notice.facts | {SessionFact(org_id, "", MESSAGES) for org_id, _ in notice.messages}
        )
        known = self._unsettled({about for fact in new for about in known_facts(fact)})
        if new:
            await self._book.write([*new, *known])
        # Our own calls and facts are written, and only now the others' are read: of two aggregators that meet
        # the two sides of a link at the same time, at least the one that reads last finds both.
        told = {fact.session for fact in new if fact.session_id}
        organizations = {(org_id, "") for org_id in notice.bridges}
        facts = await self._facts(
            told
            | notice.unnamed.keys()
            | notice.named
            | notice.series.keys()
            | (organizations - self._with_messages)
        )
        self._with_messages |= organizations & facts.keys()
        # An account or a device of which nobody knows anything concerns no call yet.
        said_now = {
            fact.session
            for fact in new
            if fact.session in told and (fact.kind != ACCOUNT or tells_who(facts[fact.session]))
        }
        states = await self._book.calls(said_now)
        before = facts.keys() - said_now
        calls = {s: some for s, some in notice.unnamed.items() if s in before and tells_who(facts[s])}
        # What is known of these sessions is settled for their other calls: only those of the time matter.
        searched = {s for s in notice.named & before if any(f.kind == NAMELESS for f in facts[s])}
        near = await self._book.calls(searched | (notice.nameless - said_now), notice.moments)
        # Most organisations have no such calls: then nothing is asked about all their others.
        asked = {org_id: notice.bridges[org_id] for org_id, _ in organizations & self._with_messages}
        owed = await self._messages.owed(notice.messages, asked)
        if states or calls or near:
            owed += await asyncio.to_thread(lambda: [*conclusions(states, calls, facts), *pairs(near)])
        activity = await self._people.owed(facts, said_now, notice.series)
        for piece in await self._of_accounts(known):
            owed += piece.calls
            activity += piece.activity
        return Concluded(records_of(owed), [*new, *known], activity)

    def _unsettled(self, facts: Iterable[SessionFact]) -> list[SessionFact]:
        return [fact for fact in sorted(facts) if fact.digest not in self._settled]

    async def _facts(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, list[SessionFact]]:
        """Return the facts of sessions; where they name no person, with those of the account or device."""
        facts = await self._book.facts(sessions)
        about = {session: subjects(told) for session, told in facts.items()}
        asked = set().union(*about.values())
        known = await self._book.facts(asked) if asked else {}
        for session, of in about.items():
            facts[session] += [fact for subject in of for fact in known.get(subject, ())]
        return facts

    async def _of_accounts(self, known: Sequence[SessionFact]) -> list[Whole]:
        """Return what follows for the sessions whose account or device somebody was named for."""
        return await self._whole(await self._book.of_accounts(known)) if known else []

    async def _whole(self, sessions: Sequence[SessionKey]) -> list[Whole]:
        """Return what follows for all calls and all activity of sessions, a piece of them at a time."""
        found = []
        for start in range(0, len(sessions), _PIECE):
            piece = sessions[start : start + _PIECE]
            facts = await self._facts(piece)
            telling = [s for s in piece if tells_who(facts[s]) or any(f.kind == NAMELESS for f in facts[s])]
            states = await self._book.calls(telling)
            moved = [event for state in states for event in passed_on(state)]
            activity = await self._people.owed(facts, telling, {})
            found.append(Whole([*moved, *conclusions(states, {}, facts)], activity))
        return found

    async def conclude_rows(self, rows: Sequence[bytes]) -> Concluded:
        """Return what follows from stored rows, with what those of them pass on that are other calls."""
        notice, moved = Notice(), []
        for row in rows:
            state = state_of_row(decode_row(row))
            moved += passed_on(state)
            notice.take(state)
            notice.meet(state.values())
            for event in state.values():
                notice.hear(event)
        concluded = await self.conclude(notice)
        return concluded._replace(records=[*records_of(moved), *concluded.records])

    async def repair(self) -> list[Concluded]:
        """Conclude everything again, for a broker that forgot what was published before the last crash."""
        owed = Concluded(records_of(await self._messages.all_owed()))
        pieces = await self._whole(await self._book.sessions())
        return [owed, *(Concluded(records_of(piece.calls), (), piece.activity) for piece in pieces)]

    def settle(self, concluded: Concluded) -> None:
        """Take note that the conclusions are published: from now on the facts need no search of their own.

        Not earlier: after a crash in between, whoever repeats the block must search again.
        """
        self._settled |= dict.fromkeys(fact.digest for fact in concluded.facts)
        for oldest in list(islice(self._settled, max(0, len(self._settled) - _REMEMBERED))):
            del self._settled[oldest]


def conclusions(
    states: Sequence[State],
    calls: Mapping[SessionKey, Sequence[Unnamed]],
    facts: Mapping[SessionKey, Sequence[SessionFact]],
) -> list[UsageEvent]:
    """Return what calls and the facts of their sessions amount to: whole sessions, and single calls."""
    whole = Notice()
    for state in states:
        whole.take(state)
    found = pairs(states) if whole.nameless else []
    for session, some in (*whole.unnamed.items(), *calls.items()):
        if session in facts:
            people = (person_of(call, facts[session]) for call in some)
            found += [person for person in people if person is not None]
    return found
