"""Takes a protobuf request apart into its records without decoding them.

Every OTLP request has the same outer form: containers in field 1; in a container the resource in field 1 and
scopes in field 2; in a scope its description in field 1 and the records in field 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tokentide_ingest.otlp.values import MAX_RECORDS, malformed, too_many

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES: Final = 10


class Piece(NamedTuple):
    """The undecoded records of one scope, with the undecoded resource and scope they belong to."""

    resource: bytes
    scope: bytes
    records: list[memoryview]


def pieces(body: bytes) -> Iterator[Piece]:
    """Yield the scopes of a request.

    Raises `InvalidRequest` for a body that is not protobuf and `TooLarge` for more parts than are taken.
    """
    taken = 0
    for container in _submessages(memoryview(body), 1):
        resource, scopes = _head_and_rest(container)
        taken += 1 + len(scopes)
        for scope in scopes:
            described, records = _head_and_rest(scope)
            taken += len(records)
            if taken > MAX_RECORDS:
                raise too_many()
            yield Piece(resource, described, records)


def _head_and_rest(message: memoryview) -> tuple[bytes, list[memoryview]]:
    """Return field 1, its parts joined, which by protobuf's rules merges them, and every field 2."""
    head, rest = b"", []
    for number, part in _fields(message):
        if number == 1:
            head += part
        elif number == 2:
            rest.append(part)
            if len(rest) > MAX_RECORDS:
                raise too_many()
    return head, rest


def _submessages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (part for number, part in _fields(message) if number == wanted)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of every field that has a length; the others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if tag < 8:
            raise malformed("the body is not protobuf")
        if kind == _VARINT:
            _, at = _varint(message, at)
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in _FIXED_BYTES:
            size = _FIXED_BYTES[kind]
        else:
            raise malformed("the body is not protobuf")
        if at + size > len(message):
            raise malformed("the body is not protobuf, or truncated")
        if kind == _BYTES:
            yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise malformed("the body is not protobuf, or truncated")
