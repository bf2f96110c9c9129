"""How events lie in a spool's files: each framed by itself, so that damage costs what it touches."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from tokentide_common.outbox import Record

# The first byte is in no UTF-8 text and in no MessagePack: who looks for the next frame finds few false ones.
_MARK: Final = b"\xc1tt\xc1"
_HEADER: Final = struct.Struct(">4sII")
"""Mark, length of the content, CRC-32 of length and content."""
_decoder: Final = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None])


class Frames(msgspec.Struct, frozen=True):
    """What a piece of a file holds, as far as it is whole."""

    records: list[Record]
    end: int
    """Offset in the piece behind what was read."""
    damaged_bytes: int
    """How much of that was skipped."""


def framed(record: Record) -> bytes:
    """Return a record as it is written; its headers are not kept."""
    content = msgspec.msgpack.encode((record.key, record.value))
    return _HEADER.pack(_MARK, len(content), _checksum(content)) + content


def read_frames(piece: bytes, limit: int) -> Frames:
    """Return the first `limit` whole records of a piece; what is damaged or torn is skipped."""
    records: list[Record] = []
    damaged = at = 0
    while at < len(piece) and len(records) < limit:
        found = _frame_at(piece, at)
        if found is None:
            following = _next_frame(piece, at + 1)
            damaged, at = damaged + following - at, following
        else:
            record, at = found
            records.append(record)
    return Frames(records, at, damaged)


def _next_frame(piece: bytes, start: int) -> int:
    """Return where the next whole frame begins, the end of the piece if none does."""
    while (start := piece.find(_MARK, start)) >= 0:
        if _frame_at(piece, start) is not None:
            return start
        start += 1
    return len(piece)


def _frame_at(piece: bytes, at: int) -> tuple[Record, int] | None:
    """Return the record of the frame that begins here and where it ends; None if it is not whole."""
    begin = at + _HEADER.size
    if begin > len(piece):
        return None
    mark, length, checksum = _HEADER.unpack_from(piece, at)
    if mark != _MARK or begin + length > len(piece):
        return None
    content = piece[begin : begin + length]
    if _checksum(content) != checksum:
        return None
    try:
        key, value = _decoder.decode(content)
    except msgspec.DecodeError:
        return None
    return Record(key, value), begin + length


def _checksum(content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(len(content).to_bytes(4, "big")))
