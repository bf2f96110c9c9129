"""What a batch gives occasion to conclude: small, for the batch itself is not kept until then. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from tokentide_aggregator.aliases import says_who
from tokentide_aggregator.session_facts import (
    NAMELESS,
    SessionFact,
    SessionKey,
    Unnamed,
    is_named_alone,
    is_nameless,
    names_none,
    person_fact,
    session_of,
    unnamed,
)
from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent
from tokentide_common.identity import is_derived, message_of
from tokentide_common.merge import State, speaker

Bridge = tuple[str, str, datetime]
"""(message id, call id, when) of a call whose source knows both ids."""
# Asked of every event: most begin otherwise.
_BY_ANSWER: Final = ("msg_", ":")


class Notice:
    """Facts of sessions, and calls of which their sessions may know more."""

    def __init__(self) -> None:
        self.facts: set[SessionFact] = set()
        self.unnamed: dict[SessionKey, list[Unnamed]] = defaultdict(list)
        self.named: set[SessionKey] = set()
        """Sessions of calls that the log or the proxy knows, and telemetry does not."""
        self.nameless: set[SessionKey] = set()
        """Sessions of calls that telemetry names by no id."""
        self._first: datetime | None = None
        self._last: datetime | None = None
        self.messages: dict[SessionKey, datetime] = {}
        """(org_id, call id) of calls that are known by their message alone → when they were."""
        self.bridges: dict[str, list[Bridge]] = defaultdict(list)
        """By organisation."""
        self.series: dict[SessionKey, set[str]] = defaultdict(set)
        """Series of activity whose own facts name nobody."""

    def __bool__(self) -> bool:
        noted = (self.facts, self.unnamed, self.named, self.nameless)
        return any((*noted, self.messages, self.bridges, self.series))

    @property
    def moments(self) -> tuple[datetime, ...]:
        """When the first and the last of these calls were."""
        return () if self._first is None or self._last is None else (self._first, self._last)

    def take_first(self, event: UsageEvent) -> None:
        """Take note of a call that one plain observation makes known: as `hear`, `take` and `meet` would.

        Most calls of most batches are lines of a log, for which a few questions answer all of theirs.
        """
        if event.source != "cli" or event.status == "aborted" or event.same_as:
            self.hear(event)
            self.take({speaker(event): event})
            self.meet((event,))
            return
        call_id, at, message_id = event.call_id, event.occurred_at, event.message_id
        if event.session_id:
            session = event.org_id, event.session_id
            self.unnamed[session].append(Unnamed(call_id, at, None))
            if names_none(event.client) and not is_derived(call_id):
                self.named.add(session)
                if self._first is None or self._last is None or not self._first <= at <= self._last:
                    self._span((at,))
        if call_id.startswith(_BY_ANSWER) and message_of(call_id):
            self.messages[event.org_id, call_id] = at
        elif message_id and message_id != call_id:
            self.bridges[event.org_id].append((message_id, call_id, at))

    def take(self, state: State) -> None:
        """Take note of a call as it is now."""
        session = session_of(state)
        if session is None:
            return
        call = unnamed(state)
        if call is not None:
            self.unnamed[session].append(call)
        if is_named_alone(state):
            self.named.add(session)
        elif is_nameless(state):
            self.nameless.add(session)
            self.facts.add(SessionFact(*session, NAMELESS))
        else:
            return
        self._span(event.occurred_at for event in state.values())

    def hear(self, event: UsageEvent | ActivityFact) -> None:
        """Take note of what an observation of a call, or a fact of activity, says of its session."""
        fact = person_fact(event)
        if fact is not None:
            self.facts.add(fact)

    def meet(self, events: Iterable[UsageEvent]) -> None:
        """Take note of what observations of one call say of the message that answered it."""
        met = ""
        for event in events:
            call_id, message_id = event.call_id, event.message_id
            if call_id.startswith(_BY_ANSWER) and message_of(call_id):
                # What only links it to another call gives it nothing to pass on.
                if event.source != "link" or says_who(event):
                    self.messages[event.org_id, call_id] = event.occurred_at
            elif message_id and message_id != met and message_id != call_id:  # noqa: PLR1714 -- half the time
                met = message_id
                self.bridges[event.org_id].append((message_id, call_id, event.occurred_at))

    def join(self, other: Notice) -> None:
        """Take note of all that another notice holds."""
        self.facts |= other.facts
        self.named |= other.named
        self.nameless |= other.nameless
        self._span(other.moments)
        for session, calls in other.unnamed.items():
            self.unnamed[session] += calls
        self.messages |= other.messages
        for org_id, bridges in other.bridges.items():
            self.bridges[org_id] += bridges
        for session, ids in other.series.items():
            self.series[session] |= ids

    def _span(self, moments: Iterable[datetime]) -> None:
        for moment in moments:
            if self._first is None or moment < self._first:
                self._first = moment
            if self._last is None or moment > self._last:
                self._last = moment
