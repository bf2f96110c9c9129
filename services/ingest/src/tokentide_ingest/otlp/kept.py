"""The attributes that are read at all. The decoder builds nothing of any other: no prompt, no tool input.

Whatever a mapping reads is named here, and nothing is named that holds content: a test watches both.
Attributes that a user configured as tags are added when the receiver starts.
"""

from __future__ import annotations

from typing import Final

_PEOPLE: Final = (
    *("user.email", "user.account_uuid", "user.account_id", "user.id", "installation.id", "enduser.id"),
    *("identity.source", "department", "team.id", "team", "cost_center", "project", "project.name"),
)
_CLIENT: Final = ("service.name", "app.entrypoint")
_SESSION: Final = ("session.id", "conversation.id", "prompt.id", "prompt_id", "agent.name", "agent_id")
_EVENT: Final = ("event.name", "event.timestamp", "event.sequence", "event.kind")
_CALL: Final = (
    *("model", "request_id", "query_source", "role", "stop_reason", "endpoint"),
    *("speed", "effort", "service_tier"),
    *("duration_ms", "ttft_ms", "cost_usd", "attempt", "success", "server_fallback_hop"),
    *("status_code", "http.status_code", "http.response.status_code", "error_type", "error.type"),
)
_TOKENS: Final = (
    *("input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_creation_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens"),
    *("input_token_count", "output_token_count", "cached_token_count", "cache_write_token_count"),
    *("reasoning_token_count", "cached_content_token_count", "thoughts_token_count"),
    *("tool_token_count", "total_token_count"),
)
_ACTIVITY: Final = (
    *("type", "start_type", "language", "tool_name", "function_name", "tool_use_id", "call_id"),
    *("decision", "source", "prompt_length", "trigger", "tokens_before", "tokens_after", "token_type"),
)
# What tells one counter from another, see `streams.py`; of most nothing but a hash is kept.
_STREAM: Final = (
    *("service.instance.id", "host.name", "process.pid", "app.version", "terminal.type", "interactive"),
    *("auth_type", "vcs.repository.name", "skill.name", "plugin.name", "marketplace.name"),
    *("mcp_server.name", "mcp_tool.name", "originator", "session_source", "is_git", "is_worktree"),
)
_GEN_AI: Final = (
    *("gen_ai.provider.name", "gen_ai.system", "gen_ai.operation.name", "gen_ai.agent.name"),
    *("gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id", "gen_ai.conversation.id"),
    *("gen_ai.response.time_to_first_chunk", "ai.response.msToFirstChunk", "traceloop.span.kind"),
    *("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
)
# In order: the convention's own name, then what emitters have called it. The AI SDK, as in OpenCode,
# says the whole by the convention and the parts by names of its own.
GEN_AI_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
GEN_AI_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
GEN_AI_CACHE_READ: Final = (
    *(
        f"gen_ai.usage.{name}"
        for name in (
            *("cache_read.input_tokens", "cache_read_input_tokens", "cache_read_tokens"),
            *("input_cached_tokens", "cached_input_tokens", "details.cache_read_tokens"),
            *("details.cached_tokens", "details.cache_read_input_tokens"),
        )
    ),
    *("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
)
GEN_AI_CACHE_WRITE: Final = (
    *(
        f"gen_ai.usage.{name}"
        for name in (
            *("cache_creation.input_tokens", "cache_creation_input_tokens", "cache_creation_tokens"),
            *("cache_write.input_tokens", "cache_write_input_tokens", "cache_write_tokens"),
            *("details.cache_write_tokens", "details.cache_creation_input_tokens"),
        )
    ),
    "ai.usage.inputTokenDetails.cacheWriteTokens",
)
GEN_AI_REASONING: Final = (
    *(
        f"gen_ai.usage.{name}"
        for name in (
            *("reasoning.output_tokens", "reasoning_output_tokens", "reasoning_tokens"),
            *("output_reasoning_tokens", "details.reasoning_tokens"),
        )
    ),
    *("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
)
KEPT: Final = frozenset(
    (
        *(*_PEOPLE, *_CLIENT, *_SESSION, *_EVENT, *_CALL, *_TOKENS, *_ACTIVITY, *_STREAM, *_GEN_AI),
        *(*GEN_AI_INPUT, *GEN_AI_OUTPUT, *GEN_AI_CACHE_READ, *GEN_AI_CACHE_WRITE, *GEN_AI_REASONING),
    )
)

HISTOGRAMS: Final = frozenset({"codex.turn.token_usage"})
"""The histograms that are read, as what they are besides: a sum that only rises."""

CONTENT: Final = frozenset(
    {
        *("prompt", "prompt_text", "user_prompt", "response", "response_text", "request_text", "new_context"),
        *(
            "body",
            "body_ref",
            "error",
            "error.message",
            "exception.message",
            "exception.stacktrace",
            "output",
        ),
        *(
            "output",
            "tool_input",
            "tool_output",
            "tool_parameters",
            "tool_result",
            "arguments",
            "function_args",
        ),
        *("full_command", "bash_command", "command", "cwd", "file_path", "agent_name", "code.file.path"),
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments"),
        *("gen_ai.tool.call.result", "workspace.host_paths", "user.groups"),
    }
)
"""Never read, not even if somebody configures one of them as a tag."""
