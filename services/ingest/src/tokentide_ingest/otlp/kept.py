"""The attributes that are read at all. The decoder builds nothing of any other: no prompt, no tool input.

Resource attributes that a user configured as tags are added when the receiver starts.
"""

from __future__ import annotations

from typing import Final

_IDENTITY: Final = (
    "service.name",
    "service.version",
    "app.version",
    "session.id",
    "conversation.id",
    "user.id",
    "user.email",
    "user.account_uuid",
    "user.account_id",
    "installation.id",
    "department",
    "team.id",
    "cost_center",
)
_EVENT: Final = ("event.name", "event.timestamp", "event.sequence", "event.kind", "prompt.id", "prompt_id")
_CALL: Final = (
    "model",
    "request_id",
    "client_request_id",
    "query_source",
    "speed",
    "effort",
    "duration_ms",
    "ttft_ms",
    "cost_usd",
    "status_code",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "input_token_count",
    "output_token_count",
    "cached_token_count",
    "cached_content_token_count",
    "reasoning_token_count",
    "thoughts_token_count",
    "tool_token_count",
)
_ACTIVITY: Final = ("type", "start_type", "tool_name", "decision", "source", "language", "prompt_length")
_GEN_AI: Final = (
    "gen_ai.system",
    "gen_ai.provider.name",
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.id",
    "gen_ai.conversation.id",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
)

KEPT: Final = frozenset((*_IDENTITY, *_EVENT, *_CALL, *_ACTIVITY, *_GEN_AI))
