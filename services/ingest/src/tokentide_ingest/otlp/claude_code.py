"""Claude Code: its log events, and the spans of its requests (beta). Pure.

The call is `api_request`, sent when the answer is complete: the call began `duration_ms` before. A span
`llm_request` of the same request carries the same id and the same numbers, so both join into one call; a span
without an id is left to the events. `api_retries_exhausted` repeats the last `api_error` of a request and
names no request of its own: it is no call. Requests that failed and then succeeded at another attempt, and
streams that broke, have no event at all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from msgspec.structs import replace

from tokentide_common.events import EARLIEST, UsageEvent
from tokentide_common.identity import call_id_for, derived_call_id, fitting
from tokentide_common.providers import provider_of
from tokentide_ingest.otlp.facts import (
    Place,
    Told,
    decider,
    decision_fact,
    fact,
    prompt_facts,
    result_fact,
    stamp,
)
from tokentide_ingest.otlp.origin import Origin, Origins
from tokentide_ingest.otlp.reading import (
    counts,
    dollars,
    flag,
    identifier,
    millis,
    moment,
    retry_attempt,
    status_code,
    text,
    word,
)
from tokentide_ingest.otlp.telemetry import Attributes, LogRecord, Span

CLIENT: Final = "claude-code"
LLM_SPAN: Final = "claude_code.llm_request"
_NOT_A_CALL: Final = "<synthetic>"
# What an event says of its call that many others say alike: all that `_begun` reads.
_ALIKE: Final = (
    *("session.id", "prompt.id", "query_source", "identity.source", "model", "speed", "effort"),
    *("agent.name", "agent_id"),
)
_WHOSE: Final = ("user.id", "event.sequence", "model")
# In this order they are a part of derived ids.
_COUNTED: Final = (
    *("input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
)
_BUCKETS: Final = (
    *("input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_creation_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens"),
)
# The API's own words for its statuses; the event has only the number and a message, which is never read.
_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def api_request(record: LogRecord, origins: Origins) -> Told:
    """Return the call that an answered request is."""
    said = record.attributes
    if said.get("model") == _NOT_A_CALL:
        return []
    call = _call(record, origins)
    _count(call, said)
    call.reported_cost_usd = dollars(said, "cost_usd")
    if not call.call_id:
        call.call_id = _derived_id(record, "", *(getattr(call, name) for name in _COUNTED))
    return [call]


def api_error(record: LogRecord, origins: Origins) -> Told:
    """Return the failed call that a request given up is."""
    status = status_code(record.attributes, "status_code")
    call = _call(record, origins)
    call.call_id = call.call_id or _derived_id(record, "api_error")
    call.status, call.http_status = "error", status
    call.error_type = _ERRORS.get(status) or (f"http_{status}" if status else "connection_error")
    return [call]


def api_refusal(record: LogRecord, origins: Origins) -> Told:
    """Return what a refusal adds to the call that it answers, or nothing if another model then took over."""
    if flag(record.attributes, "server_fallback_hop"):
        return []
    call = _call(record, origins)
    call.call_id = call.call_id or _derived_id(record, "api_refusal")
    call.status, call.error_type, call.stop_reason = "error", "refusal", "refusal"
    return [call]


def api_retries_exhausted(record: LogRecord, origins: Origins) -> Told:
    """Return the failed call if the event names its request; without an id it repeats an `api_error`."""
    return api_error(record, origins) if text(record.attributes, "request_id") else []


def user_prompt(record: LogRecord, origins: Origins) -> Told:
    """Return that there was a prompt, and how long it was."""
    return prompt_facts(record, _place(record, origins))


def tool_result(record: LogRecord, origins: Origins) -> Told:
    """Return that a tool ran, and whether it succeeded."""
    return [result_fact(record, _place(record, origins), text(record.attributes, "tool_name"))]


def tool_decision(record: LogRecord, origins: Origins) -> Told:
    """Return that somebody or something decided whether a tool may run."""
    tool = text(record.attributes, "tool_name")
    return [decision_fact(record, _place(record, origins), tool, decider(record))]


def compaction(record: LogRecord, origins: Origins) -> Told:
    """Return that a conversation was summed up, if it was."""
    said = record.attributes
    if flag(said, "success") is False:
        return []
    return [fact(record, _place(record, origins), "compactions", kind=word(said, "trigger"))]


def llm_span(span: Span, origins: Origins) -> Told:
    """Return what a request's span says of the call; its end and its reason to stop no event has.

    The span's place is not stamped with its time: the events, which know the prompt too, go before it.
    """
    said = span.attributes
    if not (request_id := identifier(said, "request_id")):
        return []
    session_id = identifier(said, "session.id")
    failed = span.failed or flag(said, "success") is False
    call = UsageEvent(
        call_id=_issued_id(request_id, session_id),
        source="otlp",
        client=CLIENT,
        occurred_at=moment(span.start_ns),
        request_id=request_id,
        session_id=session_id,
        status="error" if failed else "ok",
        duration_ms=millis(said, "duration_ms"),
        ttft_ms=millis(said, "ttft_ms"),
        retry_attempt=retry_attempt(said, first=1),
        stop_reason=word(said, "stop_reason"),
        **_described(said),
        **origins.of(span.resource, said),
    )
    if not failed:
        _count(call, said)
    return [call]


TELLERS: Final[dict[str, Callable[[LogRecord, Origins], Told]]] = {
    "api_request": api_request,
    "api_error": api_error,
    "api_refusal": api_refusal,
    "api_retries_exhausted": api_retries_exhausted,
    "user_prompt": user_prompt,
    "tool_result": tool_result,
    "tool_decision": tool_decision,
    "compaction": compaction,
}
"""By the event's name without `claude_code.`; all other events mean nothing here."""


def _call(record: LogRecord, origins: Origins) -> UsageEvent:
    """Return the call that an event is about, without an id if the event names none."""
    said = record.attributes
    alike = origins.events(_ALIKE, _begun).of(record.resource, said)
    at, duration_ms = moment(record.time_ns), millis(said, "duration_ms")
    request_id = identifier(said, "request_id")
    call = replace(
        alike,
        call_id=_issued_id(request_id, alike.session_id),
        occurred_at=at - timedelta(0, 0, 1000 * duration_ms),
        observed_at=at,
        request_id=request_id,
        duration_ms=duration_ms,
        ttft_ms=millis(said, "ttft_ms"),
    )
    if "attempt" in said:  # few events have it
        call.retry_attempt = retry_attempt(said, first=1)
    return call


def _begun(said: Attributes, origin: Origin) -> UsageEvent:
    """Return what many calls of a session have in common; their ids, times and tokens are missing."""
    return UsageEvent(
        call_id="",
        source="otlp",
        client=CLIENT,
        occurred_at=EARLIEST,
        session_id=identifier(said, "session.id"),
        prompt_id=text(said, "prompt.id"),
        query_source=text(said, "query_source"),
        identity_provider=text(said, "identity.source"),
        **_described(said),
        **origin,
    )


def _described(said: Attributes) -> dict[str, Any]:
    """Return what events and spans say of a call in the same words."""
    model, speed, agent_id = identifier(said, "model"), word(said, "speed"), text(said, "agent_id")
    return {
        "model": model,
        "provider": provider_of(model),
        "agent": text(said, "agent.name") or agent_id,
        "is_sidechain": bool(agent_id),
        # The API and the log call it standard.
        "speed": "standard" if speed == "normal" else speed,
        "effort": word(said, "effort"),
    }


def _count(call: UsageEvent, said: Attributes) -> None:
    """Set the disjoint buckets: Claude Code's input leaves out what was cached."""
    found = counts(said, _BUCKETS)
    call.input_tokens, call.output_tokens, call.cache_read_tokens, written, write_5m, write_1h = found
    if written or write_5m or write_1h:
        # Some versions say nothing but the total, some say 0 where they know the parts.
        call.cache_write_tokens = max(written, write_5m + write_1h)
        call.cache_write_5m_tokens, call.cache_write_1h_tokens = write_5m, write_1h


def _issued_id(request_id: str, session_id: str) -> str:
    return fitting(call_id_for(request_id=request_id, session_id=session_id), anthropic=True)


def _derived_id(record: LogRecord, *told: str | int) -> str:
    """Return an id for old versions, which know none: what is in the record tells calls apart."""
    said = record.attributes
    whose = (identifier(said, "session.id"), *(text(said, key) for key in _WHOSE))
    return derived_call_id("otlp", CLIENT, stamp(record), *whose, *told)


def _place(record: LogRecord, origins: Origins) -> Place:
    said = record.attributes
    return Place(CLIENT, identifier(said, "session.id"), origins.of(record.resource, said))
