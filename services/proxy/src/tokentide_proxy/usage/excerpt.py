"""Keeping the few wanted members of a JSON document that streams by, without holding the rest.

What comes out is a small document with the same structure, so one typed decoder serves both. Structure is
followed exactly: a member of the same name inside content (a tool's input, say) is never taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

Wanted = Mapping[bytes, "Wanted | None"]
"""Member → what is wanted inside of it, None for all. Arrays are transparent: it holds for each element."""

MAX_KEPT_BYTES: Final = 64 * 1024
_MAX_KEY_BYTES: Final = 64
_MAX_FRAMES: Final = 32
_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BLANK: Final = re.compile(rb"[ \t\r\n]*+")
_NESTED: Final = re.compile(rb'["{}\[\]]')
_FLAT: Final = re.compile(rb'["{}\[\],]')
_NEXT_ELEMENT: Final = re.compile(rb"[ \t\r\n,]*+")
_KEY_OR_END: Final = re.compile(rb'["}]')
_DOCUMENT_OR_END: Final = re.compile(rb"[{\]]")
_QUOTE = ord('"')
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_NOTHING: Final[Wanted] = {}


class _Frame(msgspec.Struct, gc=False):
    """An object or array that is kept, with only its wanted members."""

    wanted: Wanted
    is_array: bool
    empty: bool = True


class Excerpt:
    """Takes JSON in any pieces; `take()` returns the excerpts of the objects that are complete.

    A root array is a sequence of documents. An excerpt over its bound is dropped. Garbage gives garbage
    or nothing, but never an error and never growth.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.array_closed = False
        self._root = wanted
        self._complete: list[bytes] = []
        self._frames: list[_Frame] = []
        self._kept = bytearray()
        self._key = bytearray()
        """As written, with its closing quote."""
        self._value: Wanted | None = None
        """What is wanted of the value that comes next; None: all of it."""
        self._depth = 0
        """How deep inside a value that is passed over, or copied, as a whole."""
        self._sink: bytearray | None = None
        self._spoiled = False
        self._step: Callable[[bytes, int], int] = self._outside
        self._after_string: Callable[[bytes, int], int] = self._pass

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at, end = 0, len(data)
        while at < end:
            at = self._step(data, at)

    def take(self) -> list[bytes]:
        """Return the excerpts that became complete since the last time."""
        complete, self._complete = self._complete, []
        return complete

    def _outside(self, data: bytes, at: int) -> int:
        found = _DOCUMENT_OR_END.search(data, at)
        if found is None:
            return len(data)
        if data[found.start()] == _CLOSE_ARRAY:
            self.array_closed = True
        else:
            self._spoiled = False
            self._kept.clear()
            self._open(self._root, _OPEN_OBJECT)
        return found.end()

    def _member(self, data: bytes, at: int) -> int:
        found = _KEY_OR_END.search(data, at)
        if found is None:
            return len(data)
        if data[found.start()] == _CLOSE_OBJECT:
            self._close(_CLOSE_OBJECT)
        else:
            self._key.clear()
            self._sink, self._step, self._after_string = self._key, self._string, self._colon
        return found.end()

    def _colon(self, data: bytes, at: int) -> int:
        colon = data.find(b":", at)
        if colon < 0:
            return len(data)
        self._value = self._frames[-1].wanted.get(bytes(self._key[:-1]), _NOTHING)
        self._step = self._begin
        return colon + 1

    def _element(self, data: bytes, at: int) -> int:
        at = _over(_NEXT_ELEMENT, data, at)
        if at == len(data):
            return at
        if data[at] in b"]}":
            self._close(_CLOSE_ARRAY)
            return at + 1
        self._value, self._step = self._frames[-1].wanted, self._begin
        return at

    def _begin(self, data: bytes, at: int) -> int:
        at = _over(_BLANK, data, at)
        if at == len(data):
            return at
        if self._value and data[at] in b"{[" and len(self._frames) < _MAX_FRAMES:
            self._name_it()
            self._open(self._value, data[at])
            return at + 1
        self._sink = None
        if self._value is None:
            self._name_it()
            self._sink = self._kept
        self._depth, self._step, self._after_string = 0, self._pass, self._pass
        return at

    def _pass(self, data: bytes, at: int) -> int:
        """Go through a value as a whole; at its own level a comma or its parent's end is its end."""
        found = (_NESTED if self._depth else _FLAT).search(data, at)
        if found is None:
            self._copy(data, at, len(data))
            return len(data)
        mark, end = data[found.start()], found.end()
        if not self._depth and mark in b",}]":
            self._copy(data, at, end - 1)
            self._step = self._next_in_frame()
            return end - 1
        self._copy(data, at, end)
        if mark == _QUOTE:
            self._step = self._string
        else:
            self._depth += 1 if mark in b"{[" else -1
        return end

    def _string(self, data: bytes, at: int) -> int:
        end = _over(_STRING, data, at)
        self._copy(data, at, end + 1)
        if end < len(data):
            self._step = self._after_string if data[end] == _QUOTE else self._escaped
        return end + 1

    def _escaped(self, data: bytes, at: int) -> int:
        self._copy(data, at, at + 1)
        self._step = self._string
        return at + 1

    def _name_it(self) -> None:
        frame = self._frames[-1]
        if not frame.empty:
            self._kept += b","
        frame.empty = False
        if not frame.is_array:
            self._kept += b'"%b:' % bytes(self._key)

    def _open(self, wanted: Wanted, mark: int) -> None:
        if len(self._kept) > MAX_KEPT_BYTES:
            self._spoiled = True
            self._kept.clear()
        self._kept.append(mark)
        self._frames.append(_Frame(wanted, mark == _OPEN_ARRAY))
        self._step = self._next_in_frame()

    def _close(self, mark: int) -> None:
        self._kept.append(mark)
        self._frames.pop()
        self._step = self._next_in_frame()
        if not self._frames and not self._spoiled:
            self._complete.append(bytes(self._kept))

    def _next_in_frame(self) -> Callable[[bytes, int], int]:
        if not self._frames:
            return self._outside
        return self._element if self._frames[-1].is_array else self._member

    def _copy(self, data: bytes, start: int, end: int) -> None:
        sink = self._sink
        if sink is None:
            return
        if len(sink) + end - start <= (_MAX_KEY_BYTES if sink is self._key else MAX_KEPT_BYTES):
            sink += data[start:end]
            return
        self._spoiled = self._spoiled or sink is self._kept
        sink.clear()
        self._sink = None


def _over(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at
