"""The complete lines of a growing file, from an offset on, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

CHUNK_BYTES: Final = 1 << 20
LONGEST_LINE_BYTES: Final = 32 << 20
"""Longer lines are passed over: a line about usage is a few kilobytes, pasted images make the others."""


class Line(msgspec.Struct, frozen=True):
    """A line without its newline, and the offset after it. `content` is `None` where it is too long."""

    end: int
    content: bytes | None


def complete_lines(
    stream: BinaryIO, offset: int, *, chunk_bytes: int = CHUNK_BYTES, longest: int = LONGEST_LINE_BYTES
) -> Iterator[Line]:
    """Yield the lines that end in a newline; the writer is still busy with what follows the last one."""
    kept, skipping = bytearray(), False
    stream.seek(offset)
    while chunk := stream.read(chunk_bytes):
        start = 0
        while (newline := chunk.find(b"\n", start)) >= 0:
            kept += chunk[start:newline]
            skipping = skipping or len(kept) > longest
            yield Line(offset + newline + 1, None if skipping else bytes(kept))
            kept, skipping, start = bytearray(), False, newline + 1
        kept += chunk[start:]
        if len(kept) > longest:
            kept, skipping = bytearray(), True
        offset += len(chunk)
