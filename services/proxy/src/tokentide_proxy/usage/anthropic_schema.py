"""What is read of answers of the Messages API, streamed or whole."""

from __future__ import annotations

from typing import Final

import msgspec


class CacheCreation(msgspec.Struct, gc=False):
    """What was written into the cache, by how long it is kept."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """What output was for."""

    thinking_tokens: int | None = None


class ServerToolUse(msgspec.Struct, gc=False):
    """Tools that the provider runs itself."""

    web_search_requests: int | None = None


class Tokens(msgspec.Struct, gc=False):
    """Token counts, of an answer or of one of its steps."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None


class Iteration(Tokens, gc=False):
    """A step of an answer."""

    type: str | None = None


class Usage(Tokens, gc=False):
    """What an answer, or a part of its stream, says of its cost."""

    server_tool_use: ServerToolUse | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    iterations: list[Iteration] | None = None


class Message(msgspec.Struct, gc=False):
    """A whole answer, or the beginning of a streamed one."""

    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: Usage | None = None


class Delta(msgspec.Struct, gc=False):
    """What changes at the end of a stream."""

    stop_reason: str | None = None


class Error(msgspec.Struct, gc=False):
    """What went wrong, as a word."""

    type: str | None = None


class Said(Message, gc=False):
    """An event, or a whole body: a message or an error."""

    type: str | None = None
    message: Message | None = None
    delta: Delta | None = None
    error: Error | None = None


ANSWERS: Final = msgspec.json.Decoder(Said, strict=False)
