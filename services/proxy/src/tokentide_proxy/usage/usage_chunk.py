"""Hiding the usage chunk of a chat stream from a client that did not ask for it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from tokentide_proxy.usage.sse import END_OF_EVENT, LONGEST_END, data_of

_KEY: Final = b'"usage"'
_USAGE: Final = re.compile(rb'"usage"\s*+:\s*+\{')
_WHOLE: Final = (b"\n\n", b"\r\n\r\n")
# The chunk has a few hundred bytes. What is longer is something else, and is not held.
_MAX_HELD_BYTES: Final = 16 * 1024
# What may stand before the data of an event; a comment is none of it, and waits for nothing.
_FIELDS: Final = re.compile(rb"(?:(?:id|event):[^\r\n]*+(?:\r\n|\n|\r))*+")
_STARTS: Final = (b"data:", b"id:", b"event:")
# An object begins, as far as one can see; spaces may come before it.
_MAY_BE_OBJECT: Final = re.compile(rb"data:[ \t]*+(?:\{|\Z)")
# A choice, or no usage: this chunk is somebody's answer. Inside of strings the quotes would be escaped.
_SHOWN: Final = re.compile(rb'"choices"\s*+:\s*+(?:\[\s*+[^\]\s]|[^\[\s])|"usage"\s*+:\s*+[^{\s]')


class _Chunk(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw]
    usage: dict[str, msgspec.Raw]


_decoder: Final = msgspec.json.Decoder(_Chunk)


class UsageChunkFilter:
    """Takes the plain bytes of a chat stream, gives them back without the event of usage and no choices.

    Every other byte goes out in the call that brought it, except for the beginning of an event that may still
    turn out to be the hidden one: with its first choice it is out. Nothing is merged, nothing waits for a
    later event. A content-encoded stream must not be given to it.
    """

    def __init__(self) -> None:
        self._held = b""
        """The beginning of an event that may have to be hidden."""
        self._passed = b""
        """The last bytes of an event whose beginning is out already: its end may be cut in two."""
        self._passing = False
        self._swallow_newline = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, return those to send on, maybe none."""
        if not data:
            return b""
        out: list[bytes] = []
        if self._swallow_newline:
            # The hidden event ended with a CR whose LF comes now.
            data = data.removeprefix(b"\n")
            self._swallow_newline = False
        if not self._held and not self._passing and data.endswith(_WHOLE) and not _has_usage(data):
            # The common case: whole events, and none of them has usage.
            return data
        if self._passing:
            data = self._to_its_end(data, out)
        data = self._held + data
        self._held = b""
        at = 0
        while at < len(data):
            if data[at] in b"\r\n":
                # Left of an end that was cut in two, or blank lines: no part of an event.
                out.append(data[at : at + 1])
                at += 1
                continue
            end = END_OF_EVENT.search(data, at)
            if end is None:
                break
            if not _hidden(data[at : end.start()]):
                out.append(data[at : end.end()])
            elif end.end() == len(data):
                self._swallow_newline = data.endswith(b"\r")
            at = end.end()
        self._begin(data[at:], out)
        return b"".join(out)

    def end(self) -> bytes:
        """The stream is over: return what was held and is not the chunk."""
        held, self._held = self._held, b""
        return b"" if _hidden(held) else held

    def _to_its_end(self, data: bytes, out: list[bytes]) -> bytes:
        """Pass the rest of an event that is under way, return what follows it."""
        seen = self._passed + data
        end = END_OF_EVENT.search(seen)
        if end is None:
            out.append(data)
            self._passed = seen[-LONGEST_END:]
            return b""
        self._passing = False
        rest = seen[end.end() :]
        out.append(data[: len(data) - len(rest)])
        return rest

    def _begin(self, rest: bytes, out: list[bytes]) -> None:
        if not rest:
            return
        if len(rest) <= _MAX_HELD_BYTES and _may_be_hidden(rest):
            self._held = rest
        else:
            out.append(rest)
            self._passing, self._passed = True, rest[-LONGEST_END:]


def _may_be_hidden(event: bytes) -> bool:
    fields = _FIELDS.match(event)
    rest = event if fields is None else event[fields.end() :]
    if rest.startswith(_STARTS[1:]) or any(start.startswith(rest) for start in _STARTS):
        return True  # its line is not complete
    return _MAY_BE_OBJECT.match(rest) is not None and _SHOWN.search(rest) is None


def _has_usage(data: bytes) -> bool:
    return _KEY in data and _USAGE.search(data) is not None


def _hidden(event: bytes) -> bool:
    if not _has_usage(event) or not _may_be_hidden(event):
        return False
    try:
        chunk = _decoder.decode(data_of(event))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not chunk.choices and bool(chunk.usage)
