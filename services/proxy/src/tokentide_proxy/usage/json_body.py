"""A body that is JSON: one document, or an array of documents that comes bit by bit."""

from __future__ import annotations

from tokentide_proxy.usage.answer import Answer
from tokentide_proxy.usage.excerpt import Excerpt
from tokentide_proxy.usage.sse import MAX_HELD_BYTES


class JsonBody:
    """Holds a small document whole and decodes it once, which is fastest; of a large one it keeps an excerpt.

    An array is read element by element as it comes: an answer that breaks off has told something by then.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._held = bytearray()
        self._excerpt: Excerpt | None = None
        self._is_array = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._excerpt is None:
            if not self._held:
                data = data.lstrip()
                self._is_array = data.startswith(b"[")
            self._held += data
            if not self._is_array and len(self._held) <= MAX_HELD_BYTES:
                return
            self._excerpt = Excerpt(self._answer.wanted)
            data = bytes(self._held)
            self._held.clear()
        self._excerpt.feed(data)
        for document in self._excerpt.take():
            self._read(document)

    def end(self) -> None:
        """The body is complete."""
        if self._excerpt is None:
            self._answer.document(bytes(self._held))
        elif self._excerpt.array_closed:
            self._answer.observed.finished = not self._answer.observed.error_type

    def _read(self, document: bytes) -> None:
        if self._is_array:
            self._answer.event(document)
        else:
            self._answer.document(document)
