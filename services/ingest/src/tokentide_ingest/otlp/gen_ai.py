"""Spans by OpenTelemetry's conventions for generative AI, of any SDK, under current and former names. Pure.

One span is one call, if it names a model and its tokens (or failed before there were any). Spans of agents,
workflows and tools are none: they repeat the tokens of the calls inside them.
"""

from __future__ import annotations

from typing import Any, Final

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import MAX_COUNT, UsageEvent
from tokentide_common.identity import call_id_for, derived_call_id, fitting, is_random, scope_of
from tokentide_common.providers import provider_named, provider_of
from tokentide_ingest.otlp.facts import Told
from tokentide_ingest.otlp.kept import (
    GEN_AI_CACHE_READ,
    GEN_AI_CACHE_WRITE,
    GEN_AI_INPUT,
    GEN_AI_OUTPUT,
    GEN_AI_REASONING,
)
from tokentide_ingest.otlp.origin import Origins
from tokentide_ingest.otlp.reading import (
    first,
    first_count,
    identifier,
    millis,
    moment,
    status_code,
    text,
    word,
)
from tokentide_ingest.otlp.telemetry import Attributes, Span

_CALLS: Final = frozenset(
    {
        *("chat", "completion", "completions", "embedding", "embeddings", "generate", "generate_content"),
        *("messages", "rerank", "responses", "text_completion"),
    }
)
# Former conventions say what a span is elsewhere, or do not say it of calls.
_NO_CALLS: Final = frozenset({"agent", "task", "tool", "workflow"})
_TIERS: Final = ("openai.response.service_tier", "gen_ai.openai.response.service_tier")
_MADE_UP: Final = "aitxt-"
"""The AI SDK's own id, where it passes on none of the provider's: nobody else knows it."""
_LONGEST_CALL_NS: Final = 86_400 * 10**9


def call(span: Span, origins: Origins) -> Told:
    """Return the call that a span is, if it is one."""
    said = span.attributes
    tokens = _tokens(said) if _is_call(said) else None
    if tokens is None and not (_is_call(said) and _failed(span)):
        return []
    took_ns = span.end_ns - span.start_ns
    event = UsageEvent(
        call_id=_call_id(span),
        source="otlp",
        client=text(span.resource, "service.name"),
        occurred_at=moment(span.start_ns),
        observed_at=moment(span.end_ns),
        session_id=_session(said),
        agent=text(said, "gen_ai.agent.name"),
        provider=_provider(said),
        model=_model(said),
        service_tier=first(said, _TIERS),
        duration_ms=took_ns // 10**6 if 0 <= took_ns <= _LONGEST_CALL_NS else 0,
        ttft_ms=_seconds(said, "gen_ai.response.time_to_first_chunk")
        or millis(said, "ai.response.msToFirstChunk"),
        **(tokens or {}),
        **_ids(said),
        **_failure(span),
        **_people(span, origins),
    )
    return [event]


def _is_call(said: Attributes) -> bool:
    if not _model(said):
        return False
    if operation := text(said, "gen_ai.operation.name"):
        return operation in _CALLS
    named = text(said, "gen_ai.system") or text(said, "gen_ai.provider.name")
    return bool(named) and text(said, "traceloop.span.kind") not in _NO_CALLS


def _tokens(said: Attributes) -> dict[str, Any] | None:
    """Return the disjoint buckets, `None` where the span tells no tokens.

    By the convention the input includes what was cached, and the output the reasoning. Some emitters leave
    them out: where a part is larger than its whole, the whole is what is left beside it.
    """
    whole, output = first_count(said, GEN_AI_INPUT), first_count(said, GEN_AI_OUTPUT)
    if whole is None and output is None:
        return None
    whole, output = whole or 0, output or 0
    read, write = first_count(said, GEN_AI_CACHE_READ) or 0, first_count(said, GEN_AI_CACHE_WRITE) or 0
    reasoning = first_count(said, GEN_AI_REASONING) or 0
    if reasoning > output:
        output += reasoning
    if output > MAX_COUNT:
        raise InvalidEvent("the output tokens together are absurd")
    return {
        "input_tokens": whole - read - write if read + write <= whole else whole,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "output_tokens": output,
        "reasoning_tokens": reasoning,
    }


def _call_id(span: Span) -> str:
    """Return the provider's id of the answer, scoped where a gateway may have used it before."""
    said = span.attributes
    response_id = identifier(said, "gen_ai.response.id")
    if not response_id or response_id.startswith(_MADE_UP):
        return derived_call_id("otlp", span.trace_id, span.span_id)
    # A random one stands for itself: log and proxy may know another session than the SDK's, or none at all.
    scope = scope_of(response_id, "" if is_random(response_id) else _session(said), span.trace_id)
    call_id = call_id_for(
        # Some SDKs give Anthropic's request id where the answer's own id belongs.
        request_id=response_id if response_id.startswith("req_") else "",
        response_id=response_id,
        session_id=scope,
        provider=_provider(said),
    )
    return fitting(call_id, anthropic=False)


def _ids(said: Attributes) -> dict[str, Any]:
    """Return the id under the name that other sources have it under, by which they may know the call."""
    response_id = text(said, "gen_ai.response.id")
    if response_id.startswith("msg_"):
        return {"message_id": response_id}
    return {"request_id": response_id} if response_id.startswith("req_") else {}


def _failed(span: Span) -> bool:
    return span.failed or bool(text(span.attributes, "error.type"))


def _failure(span: Span) -> dict[str, Any]:
    if not _failed(span):
        return {}
    said = span.attributes
    error = word(said, "error.type")
    status = status_code(said, "http.response.status_code", "error.type")
    return {"status": "error", "http_status": status, "error_type": error if not error.isdigit() else ""}


def _people(span: Span, origins: Origins) -> dict[str, Any]:
    """Return the origin; the `user.id` of an application is its user, not an installation."""
    origin = dict(origins.of(span.resource, span.attributes))
    user = origin.pop("device_id", "")
    account = text(span.attributes, "enduser.id") or user
    return {**({"account_id": account} if account else {}), **origin}


def _provider(said: Attributes) -> str:
    named = first(said, ("gen_ai.provider.name", "gen_ai.system"))
    return provider_named(named) or provider_of(_model(said))


def _model(said: Attributes) -> str:
    return identifier(said, "gen_ai.response.model") or identifier(said, "gen_ai.request.model")


def _session(said: Attributes) -> str:
    return identifier(said, "gen_ai.conversation.id") or identifier(said, "session.id")


def _seconds(said: Attributes, key: str) -> int:
    value = said.get(key)
    return millis({key: value * 1000}, key) if isinstance(value, float | int) else 0
