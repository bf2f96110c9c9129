"""What telemetry says of a session besides its calls, and whom that makes a call's person. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final, NamedTuple

from tokentide_common.events import UsageEvent
from tokentide_common.identity import is_derived
from tokentide_common.merge import TELEMETRY, State, absorbed_by, add, join, sources

SessionKey = tuple[str, str]
"""(org_id, session_id)."""
PERSON: Final = "person"
NAMELESS: Final = "nameless_calls"
"""The client is one that names no request in its telemetry: its calls are to be found in the log."""


class SessionFact(NamedTuple):
    """A row of `session_links`: a statement that is either in the set or not."""

    org_id: str
    session_id: str
    kind: str
    user_email: str = ""
    user_id: str = ""
    account_id: str = ""
    device_id: str = ""
    team: str = ""
    department: str = ""
    cost_center: str = ""

    @property
    def session(self) -> SessionKey:
        """The session that it is about."""
        return self.org_id, self.session_id


def person_fact(event: UsageEvent) -> SessionFact | None:
    """Return whom an observation by telemetry names for its session.

    Of each observation as it comes, not of what it is joined to: there the place of another one may win,
    which would make the fact depend on the order.
    """
    if not (event.user_email and event.session_id and event.source in TELEMETRY):
        return None
    return SessionFact(
        event.org_id,
        event.session_id,
        PERSON,
        event.user_email,
        event.user_id or event.user_email,
        event.account_id,
        event.device_id,
        event.team,
        event.department,
        event.cost_center,
    )


def nameless_fact(state: State) -> SessionFact | None:
    """Return that a session has calls without an id of the provider, if this is one."""
    session = session_of(state)
    return SessionFact(*session, NAMELESS) if session is not None and is_nameless(state) else None


def session_of(state: State) -> SessionKey | None:
    """Return the session of a call, as its record says; None where there is none."""
    return next(((e.org_id, e.session_id) for e in state.values() if e.session_id), None)


def lacks_person(state: State) -> bool:
    """Tell whether no telemetry of the call itself names its person: then that of its session may."""
    return not absorbed_by(state) and not any(e.user_email and e.source in TELEMETRY for e in state.values())


def is_nameless(state: State) -> bool:
    """Tell whether a call is known from telemetry alone, of a client that names no request in it.

    Claude Code before 2.1 is such a client. Its log has the request's id.
    """
    event = state.get("otlp")
    return (
        event is not None
        and is_derived(event.call_id)
        and event.client == "claude-code"
        and not (event.request_id or event.message_id or event.same_as)
        and event.output_tokens > 0
        and sources(state) == ["otlp"]
    )


def is_logged_alone(state: State) -> bool:
    """Tell whether a call is known from Claude Code's log alone, by an id of the provider."""
    event = state.get("cli")
    return (
        event is not None
        and not is_derived(event.call_id)
        and event.client == "claude-code"
        and sources(state) == ["cli"]
        and not absorbed_by(state)
    )


def person_of(state: State, facts: Iterable[SessionFact]) -> UsageEvent | None:
    """Return the observation that gives a call the person of its session; None where it would add nothing.

    Of several persons it is the one with the smaller address, as in the join of what was concluded at other
    times: so whoever concludes first or last, of less or of more facts, the call ends with the same person.
    """
    said = [_said_of(state, fact) for fact in facts if fact.kind == PERSON]
    if not said or not sources(state):
        return None
    person = reduce(join, said)
    return person if add(state, person) != state else None


def _said_of(state: State, fact: SessionFact) -> UsageEvent:
    first = min((e for e in state.values() if e.source != "link"), key=lambda e: e.occurred_at)
    return UsageEvent(
        call_id=first.call_id,
        source="link",
        occurred_at=first.occurred_at,
        observed_at=first.occurred_at,
        org_id=fact.org_id,
        session_id=fact.session_id,
        user_id=fact.user_id,
        user_email=fact.user_email,
        account_id=fact.account_id,
        device_id=fact.device_id,
        team=fact.team,
        department=fact.department,
        cost_center=fact.cost_center,
    )
