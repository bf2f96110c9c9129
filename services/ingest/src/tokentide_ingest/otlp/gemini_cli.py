"""Gemini CLI: its own events of each answer, and the one that names the provider's id of it. Pure.

Of the three views that it gives of a call, `api_response` alone has all tokens but no id, and
`gen_ai.client.inference.operation.details` alone has the id. What both have makes a derived id for the call,
and the second says which call that is. Gemini CLI's spans repeat the same and are left aside.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import MAX_COUNT, UsageEvent
from tokentide_common.identity import call_id_for, derived_call_id
from tokentide_common.providers import provider_of
from tokentide_ingest.otlp.facts import (
    Place,
    Told,
    decision_fact,
    fact,
    prompt_facts,
    result_fact,
    stamp,
    verdict,
)
from tokentide_ingest.otlp.origin import Origins
from tokentide_ingest.otlp.reading import count, identifier, millis, moment, status_code, text, word
from tokentide_ingest.otlp.telemetry import LogRecord

CLIENT: Final = "gemini-cli"
_PROVIDER: Final = "google"


def api_response(record: LogRecord, origins: Origins) -> Told:
    """Return the call that an answered request is."""
    said = record.attributes
    prompt, answer = count(said, "input_token_count"), count(said, "output_token_count")
    call_id = _call_id(record, identifier(said, "model"), prompt, answer)
    told = {"http_status": _status(record), **_tokens(record, prompt, answer)}
    return [_call(record, origins, call_id, told)]


def api_error(record: LogRecord, origins: Origins) -> Told:
    """Return the failed call that a refused request is."""
    said = record.attributes
    status = _status(record)
    error = word(said, "error.type") or word(said, "error_type") or (f"http_{status}" if status else "")
    failure = {"status": "error", "http_status": status, "error_type": error}
    call_id = _call_id(record, identifier(said, "model"), "api_error")
    return [_call(record, origins, call_id, failure)]


def operation_details(record: LogRecord, origins: Origins) -> Told:
    """Return which call it is that an `api_response` tells of; nothing else, for that event has the rest."""
    said = record.attributes
    response_id = identifier(said, "gen_ai.response.id")
    usage = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    if not response_id or any(key not in said for key in usage):
        return []
    model = identifier(said, "gen_ai.request.model")
    alias = UsageEvent(
        call_id=_call_id(record, model, *(count(said, key) for key in usage)),
        same_as=call_id_for(response_id=response_id, provider=_PROVIDER),
        source="otlp",
        client=CLIENT,
        occurred_at=moment(record.time_ns),
        provider=_PROVIDER,
        model=model,
    )
    return [alias]


def user_prompt(record: LogRecord, origins: Origins) -> Told:
    """Return that there was a prompt, and how long it was."""
    return prompt_facts(record, _place(record, origins))


def tool_call(record: LogRecord, origins: Origins) -> Told:
    """Return what was decided about a tool, and, unless it was not to run, how that ended."""
    said = record.attributes
    tool, decision, place = text(said, "function_name"), text(said, "decision"), _place(record, origins)
    told: Told = []
    if decision:
        by_rule = "config" if decision == "auto_accept" else ""
        told.append(decision_fact(record, place, tool, by_rule))
    if verdict(decision) != "reject":
        told.append(result_fact(record, place, tool))
    return told


def chat_compression(record: LogRecord, origins: Origins) -> Told:
    """Return that a conversation was summed up, if it became shorter."""
    said = record.attributes
    if count(said, "tokens_after") > count(said, "tokens_before"):
        return []
    return [fact(record, _place(record, origins), "compactions")]


TELLERS: Final[dict[str, Callable[[LogRecord, Origins], Told]]] = {
    "gemini_cli.api_response": api_response,
    "gemini_cli.api_error": api_error,
    "gen_ai.client.inference.operation.details": operation_details,
    "gemini_cli.user_prompt": user_prompt,
    "gemini_cli.tool_call": tool_call,
    "gemini_cli.chat_compression": chat_compression,
}
"""By the event's name; all other events mean nothing here."""


def _call(record: LogRecord, origins: Origins, call_id: str, told: dict[str, Any]) -> UsageEvent:
    said = record.attributes
    at, model, duration_ms = moment(record.time_ns), identifier(said, "model"), millis(said, "duration_ms")
    return UsageEvent(
        call_id=call_id,
        source="otlp",
        client=CLIENT,
        occurred_at=at - timedelta(milliseconds=duration_ms),
        observed_at=at,
        session_id=_session(record),
        prompt_id=text(said, "prompt_id"),
        query_source=word(said, "role"),
        # Other models are reached through routers that keep their own names.
        provider=provider_of(model) or _PROVIDER,
        model=model,
        duration_ms=duration_ms,
        **told,
        **origins.of(record.resource, said),
    )


def _tokens(record: LogRecord, prompt: int, answer: int) -> dict[str, int]:
    """Return the disjoint buckets: the prompt includes what was cached, the answer lacks the thoughts."""
    said = record.attributes
    thoughts, tools = count(said, "thoughts_token_count"), count(said, "tool_token_count")
    # What tools brought into the prompt is counted beside it, as the total shows.
    if tools and count(said, "total_token_count") == prompt + answer + thoughts:
        tools = 0
    if max(prompt + tools, answer + thoughts) > MAX_COUNT:
        raise InvalidEvent("the token counts together are absurd")
    cached = min(count(said, "cached_content_token_count"), prompt + tools)
    return {
        "input_tokens": prompt + tools - cached,
        "cache_read_tokens": cached,
        "output_tokens": answer + thoughts,
        "reasoning_tokens": thoughts,
    }


def _call_id(record: LogRecord, *told: str | int) -> str:
    return derived_call_id("otlp", CLIENT, _session(record), stamp(record), *told)


def _status(record: LogRecord) -> int:
    return status_code(record.attributes, "status_code", "http.status_code")


def _session(record: LogRecord) -> str:
    return identifier(record.attributes, "session.id") or identifier(record.resource, "session.id")


def _place(record: LogRecord, origins: Origins) -> Place:
    return Place(CLIENT, _session(record), origins.of(record.resource, record.attributes))
