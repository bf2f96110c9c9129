"""What telemetry says of a session besides its calls, and whom that makes a call's person. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from typing import Final, NamedTuple

from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent
from tokentide_common.identity import is_derived, is_issued, is_random
from tokentide_common.merge import TELEMETRY, State, absorbed_by, join

SessionKey = tuple[str, str]
"""(org_id, session_id)."""
PERSON: Final = "person"
ACCOUNT: Final = "account"
"""Telemetry of the session names an account or a device, and in this statement nobody."""
KNOWN: Final = "known"
"""Not of a session: whom telemetry names for an account or a device, wherever it does."""
NAMELESS: Final = "nameless_calls"
"""The client is one that names no request in its telemetry: its calls are to be found in the log."""
MESSAGES: Final = "messages"
"""Of no session: the organisation has calls that are known by the ids of their answers alone."""
_TELLING: Final = (PERSON, ACCOUNT, KNOWN)
_NAMING_NONE: Final = ("claude-code", "codex", "opencode")
_BY_TELEMETRY: Final = {"otlp", "otlp-aborted", "link"}
# By whoever can name a request: the proxy, too, is told the session by the client.
_BY_NAME: Final = {"cli", "cli-aborted", "proxy", "proxy-aborted", "link"}


class SessionFact(NamedTuple):
    """A row of `session_links`: a statement that is either in the set or not.

    It is about a session, about an account or a device (`KNOWN`), or about the organisation (`MESSAGES`).
    """

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
        """What it is about."""
        return self.org_id, self.session_id

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the fact where many are remembered: its texts can be long."""
        return hashlib.blake2b("\x1f".join(self).encode(), digest_size=16).digest()


def person_fact(event: UsageEvent | ActivityFact) -> SessionFact | None:
    """Return whom an observation by telemetry names for its session, or else whose account or device it is.

    Of each observation as it comes, not of what it is joined to: there the place of another one may win,
    which would make the fact depend on the order.
    """
    if event.source not in TELEMETRY or not event.session_id:
        return None
    if not event.user_email:
        return account_fact(event.org_id, event.session_id, event.account_id, event.device_id)
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


def account_fact(org_id: str, session_id: str, account_id: str, device_id: str) -> SessionFact | None:
    """Return whose account or device a session is, if that can be known elsewhere.

    An application's own number of a user means nothing outside it.
    """
    account = account_id if is_random(account_id) else ""
    device = device_id if is_random(device_id) else ""
    if not (account or device):
        return None
    return SessionFact(org_id, session_id, ACCOUNT, account_id=account, device_id=device)


def known_facts(fact: SessionFact) -> list[SessionFact]:
    """Return what the person of a session says of the account and of the device that were named with them."""
    if fact.kind != PERSON or (about := account_fact(*fact.session, fact.account_id, fact.device_id)) is None:
        return []
    known = fact._replace(kind=KNOWN, account_id="", device_id="")
    return [
        known._replace(session_id=subject, **{name: value}) for name, value, subject in _subjects_of(about)
    ]


def subjects(facts: Iterable[SessionFact]) -> set[SessionKey]:
    """Return of what `KNOWN` facts tell the person of a session, by its own facts; nothing where these do."""
    found = set()
    for fact in facts:
        if fact.kind == PERSON:
            return set()
        if fact.kind == ACCOUNT:
            found |= {(fact.org_id, subject) for _, _, subject in _subjects_of(fact)}
    return found


def tells_who(facts: Iterable[SessionFact]) -> bool:
    """Tell whether any of a session's facts names a person."""
    return any(fact.user_email for fact in facts)


def _subjects_of(fact: SessionFact) -> list[tuple[str, str, str]]:
    """Return (field, value, what `KNOWN` facts call it) for the account and the device that a fact names."""
    ids = {"account_id": fact.account_id, "device_id": fact.device_id}
    return [(name, value, f"{name} {value}") for name, value in ids.items() if value]


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


def names_none(client: str) -> bool:
    """Tell whether a client is one that names no request in its telemetry."""
    return client in _NAMING_NONE


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
        and names_none(event.client)
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
    event = state.get("cli") or state.get("proxy") or state.get("proxy-aborted")
    telemetry = state.get("otlp")
    return (
        event is not None
        and not is_derived(event.call_id)
        and names_none(event.client)
        and (state.keys() <= _BY_NAME or (telemetry is not None and is_blank(telemetry)))
        and not absorbed_by(state)
    )


def person_of(call: Unnamed, facts: Iterable[SessionFact]) -> UsageEvent | None:
    """Return the observation that gives a call the person of its session; None where it would add nothing.

    Of several persons it is the one whom the join chooses, as with what was concluded at other times: so
    whoever concludes first or last, of less or of more facts, the call ends with the same person.
    """
    # An account of whom nobody knows anything stands for somebody else than those who use the device.
    told = [f for f in facts if f.kind in _TELLING and (f.user_email or f.account_id)]
    if not tells_who(told):
        return None
    said = [_said_of(call, fact) for fact in told]
    person = reduce(join, said)
    return person if call.link is None or join(call.link, person) != call.link else None


def _said_of(call: Unnamed, fact: SessionFact) -> UsageEvent:
    return UsageEvent(
        call_id=call.call_id,
        source="link",
        occurred_at=call.occurred_at,
        observed_at=call.occurred_at,
        org_id=fact.org_id,
        session_id=fact.session_id if fact.kind == PERSON else "",
        user_id=fact.user_id,
        user_email=fact.user_email,
        account_id=fact.account_id,
        device_id=fact.device_id,
        team=fact.team,
        department=fact.department,
        cost_center=fact.cost_center,
    )
