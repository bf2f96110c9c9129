"""Codex: the end of each answer, requests that failed, and what was done. Pure.

Codex tells an answer's tokens once, at its end, without an id: the call gets one from what the event says.
Its input includes what was cached and its output the reasoning. The spans repeat the same tokens without
naming the model, and are left aside.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from tokentide_common.events import UsageEvent
from tokentide_common.identity import derived_call_id
from tokentide_common.providers import provider_of
from tokentide_ingest.otlp.facts import Place, Told, decider, decision_fact, prompt_facts, result_fact, stamp
from tokentide_ingest.otlp.origin import Origins
from tokentide_ingest.otlp.reading import (
    count,
    identifier,
    millis,
    moment,
    retry_attempt,
    status_code,
    text,
    word,
)
from tokentide_ingest.otlp.telemetry import LogRecord

CLIENT: Final = "codex"
_COUNTED: Final = "input_token_count"
_ENDPOINTS: Final = ("/responses", "/responses/compact", "/chat/completions")


def sse_event(record: LogRecord, origins: Origins) -> Told:
    """Return the call whose answer ended. Of the two events for an end, one has the tokens."""
    said = record.attributes
    kind = said.get("event.kind")
    if kind == "response.failed":
        return [_call(record, origins, kind, {"status": "error", "error_type": "response_failed"})]
    if kind != "response.completed" or _COUNTED not in said:
        return []
    whole, output = count(said, _COUNTED), count(said, "output_token_count")
    read = min(count(said, "cached_token_count"), whole)
    write = min(count(said, "cache_write_token_count"), whole - read)
    told = {
        "ttft_ms": millis(said, "ttft_ms"),
        "service_tier": word(said, "service_tier"),
        "input_tokens": whole - read - write,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "output_tokens": output,
        "reasoning_tokens": min(count(said, "reasoning_token_count"), output),
    }
    return [_call(record, origins, kind, told)]


def api_request(record: LogRecord, origins: Origins) -> Told:
    """Return the failed call that a refused request is; an answered one is told at its end."""
    said = record.attributes
    status = status_code(said, "http.response.status_code", "status_code")
    endpoint = text(said, "endpoint")
    # Older versions do not say which endpoint it was.
    if status < 400 or (endpoint and not endpoint.endswith(_ENDPOINTS)):
        return []
    failure = {
        "status": "error",
        "http_status": status,
        "error_type": f"http_{status}",
        "duration_ms": millis(said, "duration_ms"),
        "retry_attempt": retry_attempt(said, first=0),
    }
    return [_call(record, origins, f"api_request {text(said, 'attempt')}", failure)]


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


TELLERS: Final[dict[str, Callable[[LogRecord, Origins], Told]]] = {
    "codex.sse_event": sse_event,
    "codex.api_request": api_request,
    "codex.user_prompt": user_prompt,
    "codex.tool_result": tool_result,
    "codex.tool_decision": tool_decision,
}
"""By the event's name; all other events mean nothing here."""


def _call(record: LogRecord, origins: Origins, kind: str, told: dict[str, Any]) -> UsageEvent:
    said = record.attributes
    at, model, session_id = moment(record.time_ns), identifier(said, "model"), _session(record)
    tokens = [value for name, value in sorted(told.items()) if name.endswith("_tokens")]
    return UsageEvent(
        call_id=derived_call_id("otlp", CLIENT, session_id, stamp(record), kind, model, *tokens),
        source="otlp",
        client=CLIENT,
        occurred_at=at - timedelta(milliseconds=told.get("duration_ms", 0)),
        observed_at=at,
        session_id=session_id,
        provider=provider_of(model),
        model=model,
        **told,
        **origins.of(record.resource, said),
    )


def _session(record: LogRecord) -> str:
    return identifier(record.attributes, "conversation.id")


def _place(record: LogRecord, origins: Origins) -> Place:
    return Place(CLIENT, _session(record), origins.of(record.resource, record.attributes))
