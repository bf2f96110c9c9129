"""Log records and spans into usage events and activity facts: one view of each call, whoever tells it. Pure.

    claude_code.py  codex.py  gemini_cli.py   the events of these clients
    gen_ai.py                                 spans of all others
    origin.py  reading.py  facts.py           what they have in common
    kept.py                                   the only attributes that any of them can see

Events and facts come without organisation and key: the receiver stamps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from tokentide_common.activity import ActivityFact
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST, MAX_CLOCK_AHEAD, check_event
from tokentide_ingest.otlp import claude_code, codex, gemini_cli, gen_ai
from tokentide_ingest.otlp.facts import Told
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.origin import Origins
from tokentide_ingest.otlp.reading import text
from tokentide_ingest.otlp.telemetry import Attributes, LogRecord, Span

LogTeller = Callable[[LogRecord, Origins], Told]
_CLAUDE_CODE: Final = "claude_code."
_CLAUDE_CODE_SCOPE: Final = "com.anthropic.claude_code"
_DETAILS: Final = "gen_ai.client.inference.operation.details"
# Their events tell each call; their spans repeat the tokens.
_TELL_BY_EVENTS: Final = ("codex_", "codex-cli", "codex-app-server", "gemini-cli")


def map_logs(items: Iterable[LogRecord], now: datetime, tag_attributes: Mapping[str, str]) -> Mapped:
    """Return what log records amount to. Each is judged on its own; most mean nothing here."""
    mapped, origins, teller_of = Mapped(), Origins(tag_attributes), _Tellers().of
    for record in items:
        if (tell := teller_of(record)) is not None:
            try:
                _add(mapped, tell(record, origins), now)
            except InvalidEvent as error:
                mapped.reject(error.detail)
    return mapped


def map_spans(items: Iterable[Span], now: datetime, tag_attributes: Mapping[str, str]) -> Mapped:
    """Return what spans amount to. Each is judged on its own; most are no calls."""
    mapped, origins = Mapped(), Origins(tag_attributes)
    for span in items:
        if (tell := _span_teller(span)) is not None:
            try:
                _add(mapped, tell(span, origins), now)
            except InvalidEvent as error:
                mapped.reject(error.detail)
    return mapped


class _Tellers:
    """Finds who reads a record; of all with one resource, scope and name once."""

    def __init__(self) -> None:
        self._resource: Attributes = {}
        self._known: dict[tuple[str, str], LogTeller | None] = {}

    def of(self, record: LogRecord) -> LogTeller | None:
        """Return who reads the record; None: it means nothing here."""
        if record.resource is not self._resource:
            self._resource, self._known = record.resource, {}
        try:
            return self._known[record.scope, record.name]
        except KeyError:
            found = self._known[record.scope, record.name] = _teller(record)
            return found


def _teller(record: LogRecord) -> LogTeller | None:
    name = record.name
    if name.startswith(_CLAUDE_CODE) or _is_of_claude_code(record):
        return claude_code.TELLERS.get(name.removeprefix(_CLAUDE_CODE))
    if name == _DETAILS and record.scope != gemini_cli.CLIENT:
        # Other SDKs send it beside a span, which tells the call.
        return None
    return codex.TELLERS.get(name) or gemini_cli.TELLERS.get(name)


def _span_teller(span: Span) -> Callable[[Span, Origins], Told] | None:
    if span.name == claude_code.LLM_SPAN:
        return claude_code.llm_span
    # The service can be named otherwise (OTEL_SERVICE_NAME), the scope cannot.
    told = span.scope.startswith(_TELL_BY_EVENTS) or _service(span).startswith(_TELL_BY_EVENTS)
    return None if told or span.name.startswith(_CLAUDE_CODE) else gen_ai.call


def _is_of_claude_code(record: LogRecord) -> bool:
    """Tell by scope, or by service where something on the way named the scope anew."""
    return record.scope.startswith(_CLAUDE_CODE_SCOPE) or _service(record).startswith(claude_code.CLIENT)


def _service(said: LogRecord | Span) -> str:
    return text(said.resource, "service.name")


def _add(mapped: Mapped, told: Told, now: datetime) -> None:
    """Take in what a record says, or raise `InvalidEvent` and take in nothing of it."""
    for one in told:
        if not isinstance(one, ActivityFact):
            check_event(one, now)
        elif not EARLIEST <= one.at <= now + MAX_CLOCK_AHEAD:
            raise InvalidEvent("the time is out of range", code="timestamp_out_of_range")
    # Only now: whatever a record says wrongly, nothing of it is taken.
    facts = []
    for one in told:
        if isinstance(one, ActivityFact):
            facts.append(one)
        else:
            mapped.events.append(one)
    if facts:
        mapped.take(facts)
