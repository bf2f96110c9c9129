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
_KINDS: Final = frozenset({_VARINT, _BYTES, *_FIXED_BYTES})
# A record is one field; a scope or a container with its head and schema is three more.
_MAX_FIELDS: Final = 4 * MAX_RECORDS
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
    parts = _Parts()
    for number, container in parts.of(memoryview(body)):
        if number == 1:
            resource, scopes = parts.head_and_rest(container)
            for scope in scopes:
                yield Piece(resource, *parts.head_and_rest(scope))


class _Parts:
    """Finds the fields of messages, up to as many as a real request can have."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def head_and_rest(self, message: memoryview) -> tuple[bytes, list[memoryview]]:
        """Return field 1, its parts joined, which by protobuf's rules merges them, and every field 2."""
        fields = list(self.of(message))
        head = b"".join(part for number, part in fields if number == 1)
        return head, [part for number, part in fields if number == 2]

    def of(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield number and bytes of every field that has a length; the others are passed over."""
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise too_many()
            tag, at = _varint(message, at)
            kind, size = tag & 7, 0
            if kind == _VARINT:
                _, at = _varint(message, at)
            elif kind == _BYTES:
                size, at = _varint(message, at)
            elif kind in _FIXED_BYTES:
                size = _FIXED_BYTES[kind]
            if at + size > len(message) or kind not in _KINDS or tag < 8:
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
