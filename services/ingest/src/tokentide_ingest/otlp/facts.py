"""Activity facts out of single events: prompts, tool results and decisions, compactions.

What a client's metrics count as well (sessions, lines, commits, edit decisions) comes from the metrics alone;
what is told here is told by no metric that is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tokentide_common.activity import ActivityFact, ActivityMetric
from tokentide_common.events import UsageEvent
from tokentide_common.identity import derived_call_id
from tokentide_ingest.otlp.reading import count, flag, moment, text, word
from tokentide_ingest.otlp.telemetry import LogRecord

Told = list[UsageEvent | ActivityFact]
"""What one record amounts to."""
_ACCEPTED: Final = ("accept", "approve", "auto_accept", "modify")


class Place(msgspec.Struct, frozen=True):
    """Where an event happened."""

    client: str
    session_id: str
    origin: Mapping[str, Any]


def fact(
    record: LogRecord,
    place: Place,
    metric: ActivityMetric,
    *,
    value: int = 1,
    kind: str = "",
    tool: str = "",
    decision: str = "",
    decided_by: str = "",
) -> ActivityFact:
    """Return what an event adds to a metric. Each repeat of the event is the same fact."""
    what = (kind, tool, decision, decided_by)
    return ActivityFact(
        series_id=derived_call_id("otlp", metric, *_point(record, place), *what),
        metric=metric,
        at=moment(record.time_ns),
        value=str(value),
        source="otlp",
        client=place.client,
        session_id=place.session_id,
        kind=kind,
        tool=tool,
        decision=decision,
        decided_by=decided_by,
        **place.origin,
    )


def prompt_facts(record: LogRecord, place: Place) -> Told:
    """Return that there was a prompt, and how long it was."""
    length = count(record.attributes, "prompt_length")
    return [fact(record, place, "prompts"), fact(record, place, "prompt_characters", value=length)]


def result_fact(record: LogRecord, place: Place, tool: str) -> ActivityFact:
    """Return that a tool ran, and how that ended where it is said."""
    success = flag(record.attributes, "success")
    ended = "" if success is None else "ok" if success else "error"
    return fact(record, place, "tool_results", tool=tool, decision=ended)


def decision_fact(record: LogRecord, place: Place, tool: str, decided_by: str) -> ActivityFact:
    """Return that somebody or something decided whether a tool may run."""
    decision = verdict(text(record.attributes, "decision"))
    return fact(record, place, "tool_decisions", tool=tool, decision=decision, decided_by=decided_by)


def verdict(decision: str) -> str:
    """Return `accept` or `reject` for what a client calls it (approved_for_session, denied, abort)."""
    if not decision:
        return ""
    return "accept" if decision.lower().startswith(_ACCEPTED) else "reject"


def decider(record: LogRecord) -> str:
    """Return who or what decided, by the client's word for it."""
    return word(record.attributes, "source").lower()


def stamp(record: LogRecord) -> str:
    """Return the client's own spelling of an event's time, which no collector on the way rewrites."""
    return text(record.attributes, "event.timestamp") or str(record.time_ns)


def _point(record: LogRecord, place: Place) -> tuple[str, ...]:
    """Return what tells an event from all others: a counter, ids, or, in old versions, the time alone."""
    said = record.attributes
    keys = ("user.id", "event.sequence", "tool_use_id", "call_id", "prompt.id", "duration_ms")
    return (place.client, place.session_id, stamp(record), *(text(said, key) for key in keys))
