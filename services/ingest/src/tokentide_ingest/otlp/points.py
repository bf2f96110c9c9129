"""Points of metrics become activity facts. They never become calls: no point knows one.

Only what no event tells is read here; sums of calls, tool results and prompts come from their events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from tokentide_common.activity import ActivityFact, ActivityMetric
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST, MAX_CLOCK_AHEAD
from tokentide_ingest.otlp.facts import verdict
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.origin import Origins
from tokentide_ingest.otlp.reading import identifier, moment, text
from tokentide_ingest.otlp.streams import series_id
from tokentide_ingest.otlp.telemetry import Attributes, Point

_NANO: Final = Decimal("1e-9")
_TOO_MUCH: Final = 10**18
Kinds = Mapping[str, Sequence[str]]
"""What a client calls a kind → the kinds that it counts to; none: it is not counted.
Of any other the client's own name stands, but not of tokens: a new kind may be a part of another one."""

_CLAUDE_TOKENS: Final[Kinds] = {
    "input": ("input",),
    "output": ("output",),
    "cacheRead": ("cache_read",),
    "cacheCreation": ("cache_write",),
}
# Gemini's input has what came from the cache in it, and its output lacks what was thought.
_GEMINI_TOKENS: Final[Kinds] = {
    "input": ("prompt",),
    "cache": ("prompt_cached",),
    "tool": ("input",),
    "output": ("output",),
    "thought": ("output", "reasoning"),
}
# Codex's input has all that has to do with the cache in it, and its output the reasoning.
_CODEX_TOKENS: Final[Kinds] = {
    "input": ("prompt",),
    "cached_input": ("prompt_cached",),
    "output": ("output",),
    "reasoning_output": ("reasoning",),
}
# Whoever looks at the list of running agents has started no session.
_STARTS: Final[Kinds] = {"agents_view": ()}


class _Counter(msgspec.Struct, frozen=True):
    """What a metric of a client counts."""

    client: str
    metric: ActivityMetric
    kind: str = ""
    """The attribute that names the kind."""
    kinds: Kinds = {}
    labels: tuple[tuple[str, str], ...] = ()
    """Field of the fact, and the attribute that it is taken from."""


_USED: Final = (("model", "model"), ("query_source", "query_source"))
_COUNTERS: Final = {
    "claude_code.session.count": _Counter("claude-code", "sessions", "start_type", _STARTS),
    "claude_code.lines_of_code.count": _Counter(
        "claude-code", "lines_of_code", "type", {}, (("model", "model"),)
    ),
    "claude_code.commit.count": _Counter("claude-code", "commits"),
    "claude_code.pull_request.count": _Counter("claude-code", "pull_requests"),
    "claude_code.active_time.total": _Counter("claude-code", "active_time_s", "type"),
    "claude_code.code_edit_tool.decision": _Counter(
        "claude-code",
        "edit_decisions",
        labels=(("tool", "tool_name"), ("decided_by", "source"), ("language", "language")),
    ),
    "claude_code.token.usage": _Counter("claude-code", "client_tokens", "type", _CLAUDE_TOKENS, _USED),
    "claude_code.cost.usage": _Counter("claude-code", "client_cost_usd", labels=_USED),
    "gemini_cli.session.count": _Counter("gemini-cli", "sessions"),
    "gemini_cli.token.usage": _Counter("gemini-cli", "client_tokens", "type", _GEMINI_TOKENS, _USED),
    "gemini_cli.lines.changed": _Counter(
        "gemini-cli", "lines_of_code", "type", {}, (("model", "model"), ("tool", "function_name"))
    ),
    "codex.thread.started": _Counter("codex", "sessions"),
    "codex.turn.token_usage": _Counter(
        "codex", "client_tokens", "token_type", _CODEX_TOKENS, (("model", "model"),)
    ),
}


def map_points(items: Iterable[Point], now: datetime, tag_attributes: Mapping[str, str]) -> Mapped:
    """Return the facts of points; metrics that say nothing of activity are passed over."""
    mapped = Mapped()
    origins = Origins(tag_attributes)
    for point in items:
        counter = _COUNTERS.get(point.metric)
        if counter is None:
            continue
        try:
            mapped.take(_facts(point, counter, origins, now))
        except InvalidEvent as exc:
            mapped.reject(exc.detail)
    return mapped


def _facts(point: Point, counter: _Counter, origins: Origins, now: datetime) -> list[ActivityFact]:
    said = point.attributes
    value = amount(point.value)
    kind = text(said, counter.kind)
    kinds = counter.kinds.get(kind, () if counter.metric == "client_tokens" else (kind,))
    if value == "0" or not kinds:
        return []
    at = moment(point.time_ns)
    if not EARLIEST <= at <= now + MAX_CLOCK_AHEAD:
        raise InvalidEvent("the time of a point is out of range", code="timestamp_out_of_range")
    fields: dict[str, Any] = {field: text(said, name) for field, name in counter.labels}
    if counter.metric == "edit_decisions":
        fields["decision"] = verdict(text(said, "decision"))
    fields |= origins.of(point.resource, said)
    return [
        ActivityFact(
            series_id=series_id(point, kind),
            metric=counter.metric,
            at=at,
            value=value,
            source="otlp",
            client=counter.client,
            session_id=_session(point.resource, said),
            kind=kind,
            **fields,
        )
        for kind in kinds
    ]


def amount(value: float) -> str:
    """Return a number as a decimal text of at most nine places; raises `InvalidEvent` for an absurd one."""
    if not 0 <= value < _TOO_MUCH:  # nor is NaN in between
        raise InvalidEvent("the value of a point is negative or absurd")
    # By way of the shortest text that means this float: 0.1 is a tenth.
    exact = Decimal(repr(value)).quantize(_NANO).normalize()
    return format(exact + 0, "f")


def _session(resource: Attributes, attributes: Attributes) -> str:
    return identifier(attributes, "session.id") or identifier(resource, "session.id")
