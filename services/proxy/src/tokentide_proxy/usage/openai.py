"""Usage in answers of the OpenAI APIs: chat completions, responses, embeddings, and legacy completions.

Their input includes what was cached and their output includes reasoning; here the buckets are disjoint. A
chat stream tells usage in an extra chunk, and only if it was asked to; the Responses API in its last event,
there with the searches that are billed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.answer import count, decoded, name, word
from tokentide_proxy.usage.excerpt import Wanted


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    """Chat says prompt and completion, the Responses API input and output."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _WebSearch(msgspec.Struct, gc=False):
    num_requests: int | None = None


class _ToolUsage(msgspec.Struct, gc=False):
    web_search: _WebSearch | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Error(msgspec.Struct, gc=False):
    type: str | None = None
    code: str | int | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    """What a chunk, a response and a whole body have in common."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    usage: _Usage | None = None
    tool_usage: _ToolUsage | None = None
    choices: list[_Choice] | None = None
    status: str | int | None = None
    incomplete_details: _Incomplete | None = None
    error: _Error | None = None


class _Said(_Answer, gc=False):
    """A chunk, an event that may carry a response, or a whole body."""

    type: str | None = None
    code: str | int | None = None
    response: _Answer | None = None


_decoder: Final = msgspec.json.Decoder(_Said, strict=False)
_DONE: Final = b"[DONE]"
_LAST_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed")
_PENDING: Final = ("queued", "in_progress")
_ANSWER: Final[Wanted] = {
    **dict.fromkeys((b"id", b"model", b"service_tier", b"usage", b"status", b"incomplete_details")),
    b"tool_usage": {b"web_search": None},
    b"choices": {b"finish_reason": None},
    b"error": {b"type": None, b"code": None},
}

_WANTED: Final[Wanted] = {**_ANSWER, b"type": None, b"code": None, b"response": _ANSWER}
# Most chunks say that usage, error and finish reason are null: those are passed over.
_MARKERS: Final = (
    *(b'"usage":{', b'"usage": {', b'"usage" : {', b'"finish_reason":"', b'"finish_reason": "', _DONE),
    *(b'"error":{', b'"error": {', b'"error",'),
    # In every event that carries a response: the first ones and the last one.
    b'"incomplete_details"',
)


class OpenAIAnswer:
    """An answer of one of the OpenAI APIs."""

    markers: tuple[bytes, ...] = _MARKERS
    wanted: Wanted = _WANTED

    def __init__(self) -> None:
        self.observed = Observed()

    def event(self, data: bytes) -> None:
        """Take the data of one event."""
        if data.strip() == _DONE:
            self.observed.finished = True
            return
        said = decoded(_decoder, data)
        if said is None:
            return
        self._answer(said.response or said)
        if said.type == "error":
            self._error(said.error or _Error(code=said.code))
        elif said.type in _LAST_EVENTS:
            self.observed.finished = True

    def document(self, data: bytes) -> None:
        """Take a whole body."""
        said = decoded(_decoder, data)
        if said is not None:
            self._answer(said)
            self.observed.pending = said.status in _PENDING
            self.observed.finished = not self.observed.pending

    def end(self) -> None:
        """A complete body with a finished choice is a finished answer, though a gateway left out `[DONE]`."""
        if self.observed.stop_reason and not self.observed.error_type:
            self.observed.finished = True

    def _answer(self, said: _Answer) -> None:
        observed = self.observed
        observed.response_id = name(said.id) or observed.response_id
        observed.model = name(said.model) or observed.model
        observed.service_tier = word(said.service_tier) or observed.service_tier
        for choice in said.choices or ():
            observed.stop_reason = word(choice.finish_reason) or observed.stop_reason
        if said.incomplete_details is not None:
            observed.stop_reason = word(said.incomplete_details.reason) or observed.stop_reason
        elif said.status == "completed":
            observed.stop_reason = "completed"
        if said.error is not None:
            self._error(said.error)
        if said.usage is not None:
            self._usage(said.usage)
        if said.tool_usage is not None and said.tool_usage.web_search is not None:
            # Those that are billed: the output also has calls that only open a page.
            observed.web_search_requests = count(said.tool_usage.web_search.num_requests)

    def _error(self, error: _Error) -> None:
        code = error.code if isinstance(error.code, str) else ""
        self.observed.error_type = word(error.type) or word(code) or "error"

    def _usage(self, usage: _Usage) -> None:
        observed = self.observed
        whole = count(usage.prompt_tokens) or count(usage.input_tokens)
        output = count(usage.completion_tokens) or count(usage.output_tokens)
        inputs = usage.prompt_tokens_details or usage.input_tokens_details or _InputDetails()
        outputs = usage.completion_tokens_details or usage.output_tokens_details or _OutputDetails()
        read = min(count(inputs.cached_tokens), whole)
        write = min(count(inputs.cache_write_tokens), whole - read)
        observed.input_tokens = whole - read - write
        observed.cache_read_tokens, observed.cache_write_tokens = read, write
        observed.output_tokens = output
        observed.reasoning_tokens = min(count(outputs.reasoning_tokens), output)
        observed.has_usage = True
