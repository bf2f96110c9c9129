"""Calls that telemetry saw without an id of the provider, found again in the log or by the proxy. Pure.

Mostly nothing that both carry is an id, so the rule is strict: session, model and all token counts are
equal, the log's line was written while the call ran or right after, and exactly one call on each side fits.
What fits several is left apart, and coverage names it as a possible double. A call of which telemetry tells
no tokens is the one call of its session and model that was answered meanwhile and is no other: it adds none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from tokentide_aggregator.aliases import link
from tokentide_aggregator.session_facts import SessionKey, is_named_alone, is_nameless, session_of
from tokentide_common.events import UsageEvent
from tokentide_common.merge import State, merged

_BEFORE: Final = timedelta(seconds=2)
_AFTER: Final = timedelta(seconds=5)
_BLINK: Final = timedelta(milliseconds=500)
# Telemetry has the model as it was asked for (us.anthropic.claude-…-v1:0, claude-…@2025…, …[1m]), the answer
# that log and proxy have calls it by its own name, often with its date.
_NOT_THE_NAME: Final = re.compile(
    r"^(?:[a-z-]+\.)?anthropic\.|(?:[-@](?:\d{8}|\d{4}-\d\d-\d\d))?(?:-v\d+(?::\d+)?|\[1m\])?$"
)


_What = tuple[SessionKey | None, str, str, tuple[int, int, int, int]]
"""Session, client, model and tokens."""
_Found = dict[_What, list[UsageEvent]]


def pairs(states: Sequence[State]) -> list[UsageEvent]:
    """Return the links of nameless calls to the logged ones that they are, among calls of any sessions."""
    nameless, logged = (_by_what(filter(fits, states)) for fits in (is_nameless, is_named_alone))
    found: dict[str, UsageEvent] = {}
    for what, calls in nameless.items():
        for call in calls if any(what[-1]) else ():
            fits = [line for line in logged.get(what, ()) if _fits(call, line)]
            if len(fits) == 1 and sum(_fits(other, fits[0]) for other in calls) == 1:
                found[call.call_id] = fits[0]
    found |= _blanks(nameless, logged, {line.call_id for line in found.values()})
    calls_by_id = {call.call_id: call for calls in nameless.values() for call in calls}
    return [link(calls_by_id[call_id], call_id, line.call_id) for call_id, line in found.items()]


def _blanks(nameless: _Found, logged: _Found, taken: Container[str]) -> dict[str, UsageEvent]:
    """Return, for calls without any tokens, the ones that they are."""
    found = {}
    for (*whose, tokens), calls in nameless.items():
        if any(tokens):
            continue
        lines = [
            line
            for what, some in logged.items()
            if [*what[:-1]] == whose
            for line in some
            if line.status == "ok" and line.call_id not in taken
        ]
        for call in calls:
            fits = [line for line in lines if _within(call, line)]
            if len(fits) == 1 and sum(_within(other, fits[0]) for other in calls) == 1:
                found[call.call_id] = fits[0]
    return found


def _by_what(states: Iterable[State]) -> _Found:
    found: _Found = defaultdict(list)
    for state in states:
        record, _ = merged(state)
        found[_what(state, record)].append(record)
    return found


def _what(state: State, record: UsageEvent) -> _What:
    written = record.cache_write_5m_tokens + record.cache_write_1h_tokens
    tokens = (record.input_tokens, record.cache_read_tokens, written, record.output_tokens)
    return session_of(state), record.client, _NOT_THE_NAME.sub("", record.model), tokens


def _fits(call: UsageEvent, line: UsageEvent) -> bool:
    """Tell whether the line is from the time of the call, and not from another request.

    Several lines make one call; while only the first are there, its output is a placeholder and fits nothing.
    """
    if call.request_id and line.request_id:
        return call.request_id == line.request_id
    # Codex tells when a call ended and not how long it took; the proxy does, a log has no more than a moment.
    return call.occurred_at - _BEFORE <= _end(line) and line.occurred_at <= _end(call) + _AFTER


def _within(call: UsageEvent, line: UsageEvent) -> bool:
    """Tell whether the line is from within the call, give or take how clocks are read."""
    return call.occurred_at - _BLINK <= _end(line) and line.occurred_at <= _end(call) + _BLINK


def _end(call: UsageEvent) -> datetime:
    return call.occurred_at + timedelta(milliseconds=call.duration_ms)
