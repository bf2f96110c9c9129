"""Which answers tell usage, and the reader that takes one as it passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, Protocol

from tokentide_proxy.exchange import Dialect, Headers
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.answer import Answer
from tokentide_proxy.usage.anthropic import AnthropicAnswer
from tokentide_proxy.usage.gemini import GeminiAnswer
from tokentide_proxy.usage.inflating import Inflater, inflated, inflater_for
from tokentide_proxy.usage.json_body import JsonBody
from tokentide_proxy.usage.openai import OpenAIAnswer
from tokentide_proxy.usage.sse import EventSplitter

_OPENAI_CALL: Final = re.compile(r"/(?:chat/completions|completions|embeddings|responses(?:/compact)?)$")
# What was begun in the background is asked for under its id until it is there.
_OPENAI_LOOKUP: Final = re.compile(r"/responses/resp_[A-Za-z0-9_-]+$")
_GEMINI_CALL: Final = re.compile(
    r"/([^/:]+):(?:generateContent|streamGenerateContent|embedContent|batchEmbedContents)$"
)
_ANTHROPIC_CALL: Final = re.compile(r"/v1/messages$")

_MOST_UNREAD: Final = 16 * 1024


class _Body(Protocol):
    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class _EventStream:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._splitter = EventSplitter(answer.markers, answer.wanted)

    def feed(self, data: bytes) -> None:
        for event in self._splitter.feed(data):
            self._answer.event(event)

    def end(self) -> None:
        for event in self._splitter.end():
            self._answer.event(event)
        self._answer.end()


class AnswerReader:
    """Reads one answer beside the client, when it was sent on. Whatever goes wrong ends the reading alone.

    What it is fed is read when it is much, or when it is asked for: many events take the time of a few then.
    """

    __slots__ = ("_answer", "_body", "_inflater", "_unread", "_unread_bytes")

    def __init__(self, answer: Answer, streamed: bool, content_encoding: str) -> None:
        self._answer = answer
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._inflater: Inflater | None = None
        self._body: _Body | None = _EventStream(answer) if streamed else JsonBody(answer)
        try:
            if content_encoding:
                self._inflater = inflater_for(content_encoding)
        except ValueError:
            self._body = None

    @property
    def observed(self) -> Observed:
        """What the answer has said so far."""
        self._read()
        return self._answer.observed

    def feed(self, body: bytes) -> None:
        """Take the next bytes of the body, as they came. Never raises."""
        self._unread.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes > _MOST_UNREAD:
            self._read()

    def end(self) -> None:
        """The body is complete. Never raises."""
        self._read()
        try:
            if self._body is not None:
                self._body.end()
        except Exception:
            # As in `_read`.
            self._body = None

    def _read(self) -> None:
        if not self._unread:
            return
        unread, self._unread, self._unread_bytes = b"".join(self._unread), [], 0
        try:
            if self._body is None:
                return
            if self._inflater is None:
                self._body.feed(unread)
            else:
                for piece in inflated(self._inflater, unread):
                    self._body.feed(piece)
        except Exception:
            # Nothing that an upstream sends may reach the traffic through its reader: what cannot be decoded
            # is not read, and the observation stays what it was, a lower bound.
            self._body = None


def reader_for(dialect: Dialect, path: str, status: int, headers: Headers) -> AnswerReader | None:
    """Return a reader for the answer to a call of a model, None for any other request.

    The path decides: gateways speak several dialects under one address. Listing models, counting tokens and
    handling batches are no calls. `headers` are the answer's.
    """
    answer_of = _answer(dialect, path)
    if answer_of is None or status < 200 or 300 <= status < 400:
        return None
    answer = answer_of()
    # Refusals are JSON even where the call asked for events.
    streamed = status < 400 and "event-stream" in _value(headers, b"content-type")
    return AnswerReader(answer, streamed, _value(headers, b"content-encoding"))


def lookup_reader_for(path: str, status: int, headers: Headers) -> AnswerReader | None:
    """Return a reader where a response of OpenAI's is asked for once more; None for any other request."""
    if status != 200 or _OPENAI_LOOKUP.search(path) is None:
        return None
    return reader_for("openai", "/responses", status, headers)


@lru_cache(maxsize=1024)
def _answer(dialect: Dialect, path: str) -> Callable[[], Answer] | None:
    path = path.partition("?")[0].rstrip("/")
    if _ANTHROPIC_CALL.search(path) or (dialect == "anthropic" and path == "/messages"):
        return AnthropicAnswer
    if _OPENAI_CALL.search(path):
        return OpenAIAnswer
    if (call := _GEMINI_CALL.search(path)) is not None:
        return partial(GeminiAnswer, model=call[1])
    return None


def _value(headers: Headers, name: bytes) -> str:
    return b",".join([value for key, value in headers if key == name]).decode("latin-1").lower()
