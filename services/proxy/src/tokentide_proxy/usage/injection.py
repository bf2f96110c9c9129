"""Asking a chat stream for its usage on the client's behalf.

OpenAI tells the usage of a streamed chat completion in an extra chunk, and only where the request has
`stream_options.include_usage`. It is written into the request as text, every other byte stays; the extra
chunk is then to be hidden again, see `usage_chunk.py`. Whatever is not exactly as expected is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec


class _Request(msgspec.Struct, gc=False):
    stream: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()


class _Options(msgspec.Struct, gc=False):
    include_usage: bool | None = None


_request_decoder: Final = msgspec.json.Decoder(_Request)
_options_decoder: Final = msgspec.json.Decoder(_Options)
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")
_MEMBER: Final = re.compile(rb'[ \t\r\n,]*"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_SCALAR: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,{}\[\]"]+', re.DOTALL)
_NESTED: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_KEY: Final = b'"stream_options"'
_VALUE: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_ASKED: Final = b'"include_usage":true'
# There are two that are known. What is far longer is not walked through while others wait.
_MAX_OPTIONS_BYTES: Final = 4096
_MOST_DECODED_BYTES: Final = 64 * 1024 * 1024


def inject_include_usage(body: bytes) -> bytes | None:
    """Return the body of a chat completion with usage asked for, None if it is to be sent on as it is.

    None says: not streamed, already asked for, or not what was expected.
    """
    try:
        request = _request_decoder.decode(body)
        if bytes(request.stream) != b"true":
            return None
        options = bytes(request.stream_options)
        if not options:
            start = _object_start(body)
            return body[:start] + b'"stream_options":{%b},' % _ASKED + body[start:]
        if options != b"null" and _options_decoder.decode(options).include_usage:
            return None
        return _with_options(body, options)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _with_options(body: bytes, options: bytes) -> bytes | None:
    """Ask within the options that are there: they stay, and are where they were."""
    asking = b"{%b}" % _ASKED if options == b"null" else _asking(options)
    if asking is None:
        return None
    for key, value in _places(body, options):
        asked = body[:value] + asking + body[value + len(options) :]
        if _options_of(asked) == asking:
            # Where a second key has the same name, nobody knows which one the provider takes.
            renamed = body[: key + 1] + b"_" + body[key + 2 :]
            return None if _options_of(renamed) else asked
    return None


def _options_of(body: bytes) -> bytes:
    return bytes(_request_decoder.decode(body).stream_options)


def _places(body: bytes, options: bytes) -> Iterator[tuple[int, int]]:
    """Give the places of a key and a value like these, at whatever depth; not so many that others wait.

    A long body is searched and never walked through. Within a string the quotes would be escaped.
    """
    at = -1
    for _ in range(_MOST_DECODED_BYTES // len(body)):
        if (at := body.find(_KEY, at + 1)) < 0:
            return
        value = _VALUE.match(body, at + len(_KEY))
        if value is not None and body.startswith(options, value.end()):
            yield at, value.end()


def _asking(options: bytes) -> bytes | None:
    if len(options) > _MAX_OPTIONS_BYTES:
        return None
    places = [value for key, value in _members(options) if key == b"include_usage"]
    if len(places) == 1:
        return options[: places[0].start] + b"true" + options[places[0].stop :]
    if places:
        return None
    start = _object_start(options)
    comma = b"," if any(True for _ in _members(options)) else b""
    return options[:start] + _ASKED + comma + options[start:]


def _members(document: bytes) -> Iterator[tuple[bytes, slice]]:
    """Give the members of an object that is known to be valid: key as written, place of the value."""
    at = _object_start(document)
    while (member := _MEMBER.match(document, at)) is not None:
        at = _value_end(document, member.end())
        yield member[1], slice(member.end(), at)


def _value_end(document: bytes, at: int) -> int:
    if (scalar := _SCALAR.match(document, at)) is not None:
        return scalar.end()
    depth = 0
    for mark in _NESTED.finditer(document, at):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    return len(document)


def _object_start(document: bytes) -> int:
    opened = _OBJECT.match(document)
    return opened.end() if opened is not None else 0
