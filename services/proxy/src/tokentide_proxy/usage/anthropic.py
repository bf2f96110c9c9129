"""Usage in answers of the Messages API, streamed or whole.

A stream tells usage at its start and again, cumulatively, in one or several `message_delta` events. The last
value that is known wins, field by field; nothing is added up. Some rules of the format:

- `output_tokens` in `message_start` is a placeholder. It stands only until a delta tells better, and a stream
  that ends before that is not finished.
- Deltas have the total of cache writes but not their split into 5 minutes and 1 hour: the total is kept in
  full, and what it exceeds the start's split by is priced as 5-minute writes.
- `iterations` lists the steps of one answer. The top-level figures include all of them but `compaction`,
  whose tokens are billed as well: only those are added. The others would be counted twice, or, being
  another model's (an advisor), at a wrong price.
"""

from __future__ import annotations

from typing import Final

from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.answer import count, decoded, known_name, name, word
from tokentide_proxy.usage.anthropic_schema import ANSWERS, Error, Message, Tokens, Usage
from tokentide_proxy.usage.excerpt import Wanted

_MESSAGE: Final[Wanted] = {b"id": None, b"model": None, b"stop_reason": None, b"usage": None}

_WANTED: Final[Wanted] = {
    **_MESSAGE,
    b"type": None,
    b"message": _MESSAGE,
    b"delta": {b"stop_reason": None},
    b"error": {b"type": None},
}

_COUNTED: Final = (*Tokens.__struct_fields__, "iterations")
_BUCKETS: Final = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "output_tokens", "reasoning_tokens"),
)


class AnthropicAnswer:
    """An answer of the Messages API."""

    markers: tuple[bytes, ...] = (b"message_", b'"error"')
    wanted: Wanted = _WANTED

    def __init__(self) -> None:
        self.observed = Observed()
        self._seen: Usage | None = None

    def event(self, data: bytes) -> None:
        """Take the data of one event."""
        said = decoded(ANSWERS, data)
        if said is None:
            return
        match said.type:
            case "message_start" if said.message is not None:
                self._message(said.message)
            case "message_delta":
                self._stopped(said.delta.stop_reason if said.delta else None)
                self._usage(said.usage)
            case "message_stop":
                self.observed.finished = True
            case "error":
                self._error(said.error)
            case _:
                # Content blocks, pings, and kinds yet to come.
                pass

    def document(self, data: bytes) -> None:
        """Take a whole message, or an error."""
        said = decoded(ANSWERS, data)
        if said is None:
            return
        self._message(said)
        self._error(said.error)
        self.observed.finished = True

    def end(self) -> None:
        """A stream that is complete has said so itself."""

    def _message(self, message: Message) -> None:
        observed = self.observed
        observed.response_id = name(message.id) or observed.response_id
        observed.model = known_name(message.model) or observed.model
        self._stopped(message.stop_reason)
        self._usage(message.usage)

    def _stopped(self, reason: str | None) -> None:
        self.observed.stop_reason = word(reason) or self.observed.stop_reason

    def _error(self, error: Error | None) -> None:
        if error is not None:
            self.observed.error_type = word(error.type) or "error"

    def _usage(self, usage: Usage | None) -> None:
        if usage is None:
            return
        observed = self.observed
        seen = self._seen
        if seen is None:
            self._seen = seen = usage
        else:
            for field in _COUNTED:
                # Gateways fill what they do not know with zeros, which never beat a known value.
                if value := getattr(usage, field):
                    setattr(seen, field, value)
            if usage.output_tokens is not None:
                # Except for output, whose first value is known to be none.
                seen.output_tokens = usage.output_tokens
        observed.has_usage = True
        if usage.service_tier:
            observed.service_tier = word(usage.service_tier)
        if usage.speed:
            observed.speed = word(usage.speed)
        if usage.inference_geo and usage.inference_geo != "not_available":
            observed.inference_geo = word(usage.inference_geo)
        if usage.server_tool_use is not None and (
            searches := count(usage.server_tool_use.web_search_requests)
        ):
            observed.web_search_requests = searches
        self._tokens(seen)

    def _tokens(self, seen: Usage) -> None:
        observed = self.observed
        (
            observed.input_tokens,
            observed.cache_read_tokens,
            observed.cache_write_tokens,
            observed.cache_write_5m_tokens,
            observed.cache_write_1h_tokens,
            observed.output_tokens,
            observed.reasoning_tokens,
        ) = _buckets(seen)
        for step in seen.iterations or ():
            if step.type == "compaction":
                for field, value in zip(_BUCKETS, _buckets(step), strict=True):
                    setattr(observed, field, count(getattr(observed, field) + value))


def _buckets(tokens: Tokens) -> tuple[int, ...]:
    split, details = tokens.cache_creation, tokens.output_tokens_details
    write_5m = count(split.ephemeral_5m_input_tokens) if split else 0
    write_1h = count(split.ephemeral_1h_input_tokens) if split else 0
    output = count(tokens.output_tokens)
    return (
        count(tokens.input_tokens),
        count(tokens.cache_read_input_tokens),
        max(count(tokens.cache_creation_input_tokens), write_5m + write_1h),
        write_5m,
        write_1h,
        output,
        min(count(details.thinking_tokens), output) if details else 0,
    )
