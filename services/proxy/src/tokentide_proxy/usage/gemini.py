"""Usage in answers of the Gemini API: whole, as server-sent events, and as an array that is streamed.

Every piece of a stream can have a snapshot of usage, and early ones have only parts of it: the last non-empty
value of each field stands. Thoughts are billed as output and are not part of the candidates.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.answer import count, decoded, name, word
from tokentide_proxy.usage.excerpt import Wanted


class _Usage(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, rename="camel", gc=False):
    block_reason: str | None = None


class _Error(msgspec.Struct, gc=False):
    status: str | None = None


class _Said(msgspec.Struct, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: _Error | None = None


_decoder: Final = msgspec.json.Decoder(_Said, strict=False)
_WANTED: Final[Wanted] = {
    b"usageMetadata": None,
    b"modelVersion": None,
    b"responseId": None,
    b"candidates": {b"finishReason": None},
    b"promptFeedback": {b"blockReason": None},
    b"error": {b"status": None},
}


class GeminiAnswer:
    """An answer of the Gemini API. The request's own model stands where the answer does not name one."""

    markers: tuple[bytes, ...] = (b'"usageMetadata"', b'"finishReason"', b'"blockReason"', b'"error"')
    wanted: Wanted = _WANTED

    def __init__(self, model: str = "") -> None:
        self.observed = Observed()
        self.observed.model = name(model)
        self._seen = _Usage()

    def event(self, data: bytes) -> None:
        """Take one piece of a stream."""
        if (said := decoded(_decoder, data)) is not None:
            self._told(said)

    def document(self, data: bytes) -> None:
        """Take a whole body."""
        if (said := decoded(_decoder, data)) is not None:
            self._told(said)
            self.observed.finished = True

    def end(self) -> None:
        """There is no last word in a stream of events: its body is complete, and a candidate said why."""
        if self.observed.stop_reason and not self.observed.error_type:
            self.observed.finished = True

    def _told(self, said: _Said) -> None:
        observed = self.observed
        observed.response_id = name(said.response_id) or observed.response_id
        observed.model = name(said.model_version) or observed.model
        for candidate in said.candidates or ():
            observed.stop_reason = word(candidate.finish_reason) or observed.stop_reason
        if said.prompt_feedback is not None:
            observed.stop_reason = word(said.prompt_feedback.block_reason) or observed.stop_reason
        if said.error is not None:
            observed.error_type = word(said.error.status) or "error"
        if said.usage_metadata is not None:
            self._usage(said.usage_metadata)

    def _usage(self, usage: _Usage) -> None:
        seen, observed = self._seen, self.observed
        for field in _Usage.__struct_fields__:
            if value := getattr(usage, field):
                setattr(seen, field, value)
                observed.has_usage = True
        whole = count(count(seen.prompt_token_count) + count(seen.tool_use_prompt_token_count))
        observed.cache_read_tokens = min(count(seen.cached_content_token_count), whole)
        observed.input_tokens = whole - observed.cache_read_tokens
        observed.output_tokens = count(count(seen.candidates_token_count) + count(seen.thoughts_token_count))
        observed.reasoning_tokens = count(seen.thoughts_token_count)
