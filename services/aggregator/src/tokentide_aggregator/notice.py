"""What a batch gives occasion to conclude: small, for the batch itself is not kept until then. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from tokentide_aggregator.session_facts import (
    NAMELESS,
    SessionFact,
    SessionKey,
    Unnamed,
    is_named_alone,
    is_nameless,
    person_fact,
    session_of,
    unnamed,
)
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State


class Notice:
    """Facts of sessions, and calls of which their sessions may know more."""

    def __init__(self) -> None:
        self.facts: set[SessionFact] = set()
        self.unnamed: dict[SessionKey, list[Unnamed]] = defaultdict(list)
        self.named: set[SessionKey] = set()
        """Sessions of calls that the log or the proxy knows, and telemetry does not."""
        self.nameless: set[SessionKey] = set()
        """Sessions of calls that telemetry names by no id."""
        self.moments: list[datetime] = []
        """When the first and the last of these calls were."""

    def __bool__(self) -> bool:
        return bool(self.facts or self.unnamed or self.named or self.nameless)

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

    def hear(self, event: UsageEvent) -> None:
        """Take note of what an observation says of its session."""
        fact = person_fact(event)
        if fact is not None:
            self.facts.add(fact)

    def join(self, other: Notice) -> None:
        """Take note of all that another notice holds."""
        self.facts |= other.facts
        self.named |= other.named
        self.nameless |= other.nameless
        self._span(other.moments)
        for session, calls in other.unnamed.items():
            self.unnamed[session] += calls

    def _span(self, moments: Iterable[datetime]) -> None:
        known = sorted((*self.moments, *moments))
        self.moments = [known[0], known[-1]] if known else []
