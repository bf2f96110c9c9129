"""What telemetry says of a session besides its calls, and whom that makes a call's person. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from typing import Final, NamedTuple

from tokentide_common.events import UsageEvent
from tokentide_common.identity import is_derived, is_issued
from tokentide_common.merge import TELEMETRY, State, absorbed_by, join

SessionKey = tuple[str, str]
"""(org_id, session_id)."""
PERSON: Final = "person"
NAMELESS: Final = "nameless_calls"
"""The client is one that names no request in its telemetry: its calls are to be found in the log."""
MESSAGES: Final = "messages"
"""Of no session: the organisation has calls that are known by the ids of their answers alone."""
_NAMING_NONE: Final = ("claude-code", "codex", "opencode")
_BY_TELEMETRY: Final = {"otlp", "otlp-aborted", "link"}
# By whoever can name a request: the proxy, too, is told the session by the client.
_BY_NAME: Final = {"cli", "cli-aborted", "proxy", "proxy-aborted", "link"}


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

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the fact where many are remembered: its texts can be long."""
        return hashlib.blake2b("\x1f".join(self).encode(), digest_size=16).digest()


def person_fact(event: UsageEvent) -> SessionFact | None:
    """Return whom an observation by telemetry names for its session.

    Of each observation as it comes, not of what it is joined to: there the place of another one may win,
    which would make the fact depend on the order.
    """
    if event.source not in TELEMETRY or not (event.user_email and event.session_id):
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


def session_of(state: State) -> SessionKey | None:
    """Return the session of a call, as its record says; None where there is none."""
    for event in state.values():
        if event.session_id:
            return event.org_id, event.session_id
    return None


class Unnamed(NamedTuple):
    """A call whose own telemetry names nobody: then that of its session may."""

    call_id: str
    occurred_at: datetime
    link: UsageEvent | None
    """What was concluded of it already."""


def unnamed(state: State) -> Unnamed | None:
    """Return what is needed to give a call its person, if it needs one."""
    first = None
    for event in state.values():
        if event.same_as or (event.source in TELEMETRY and event.user_email):
            return None
        if event.source != "link" and (first is None or event.occurred_at < first.occurred_at):
            first = event
    return None if first is None else Unnamed(first.call_id, first.occurred_at, state.get("link"))


def is_nameless(state: State) -> bool:
    """Tell whether a call is known from telemetry alone, of a client that names no request in it.

    Codex is such a client, and Claude Code before 2.1, OpenCode with Gemini, and any in front of a cloud that
    sends no id of a request, or of a gateway that sends its own. Log and proxy have the id of the request or
    of the answer.
    """
    event = state.get("otlp")
    return (
        event is not None
        and not is_issued(event.call_id)
        and event.client in _NAMING_NONE
        and not event.same_as
        and (event.output_tokens > 0 or is_blank(event))
        and state.keys() <= _BY_TELEMETRY
        and not absorbed_by(state)
    )


def is_blank(event: UsageEvent) -> bool:
    """Tell whether telemetry says of a call that it was, and nothing of what it used.

    Older Claude Code does so of an answer that it asked for again without streaming.
    """
    used = event.input_tokens or event.output_tokens or event.cache_read_tokens or event.cache_write_tokens
    return event.status == "ok" and not used


def is_named_alone(state: State) -> bool:
    """Tell whether its log or the proxy alone knows a call of such a client, by an id of the provider."""
    event = state.get("cli") or state.get("proxy")
    telemetry = state.get("otlp")
    return (
        event is not None
        and not is_derived(event.call_id)
        and event.client in _NAMING_NONE
        and (state.keys() <= _BY_NAME or (telemetry is not None and is_blank(telemetry)))
        and not absorbed_by(state)
    )


def person_of(call: Unnamed, facts: Iterable[SessionFact]) -> UsageEvent | None:
    """Return the observation that gives a call the person of its session; None where it would add nothing.

    Of several persons it is the one with the smaller address, as in the join of what was concluded at other
    times: so whoever concludes first or last, of less or of more facts, the call ends with the same person.
    """
    said = [_said_of(call, fact) for fact in facts if fact.kind == PERSON]
    if not said:
        return None
    person = reduce(join, said)
    return person if call.link is None or join(call.link, person) != call.link else None


def _said_of(call: Unnamed, fact: SessionFact) -> UsageEvent:
    return UsageEvent(
        call_id=call.call_id,
        source="link",
        occurred_at=call.occurred_at,
        observed_at=call.occurred_at,
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
