"""The index of activity, which keeps the state of each series: rows in, states out.

What it says is complete, since it is written after the ledger; so no row of the ledger is ever read back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from tokentide_aggregator.activity_series import Series, decode_series, encode_series
from tokentide_common.store import Store

_AT_ONCE: Final = 2000
_SEEN: Final = """
SELECT call_hash, max(version), argMax(state, version) FROM activity_seen
WHERE call_hash IN (SELECT toFixedString(unhex(arrayJoin({hashes:Array(String)})), 16))
GROUP BY call_hash
"""
_HEAD: Final = struct.Struct("<16sI")


class Known(NamedTuple):
    """What is known of a series, and the how-many-eth state of it that is."""

    version: int
    series: Series


def index_row(series: bytes, known: Known) -> bytes:
    """Return the row of the index, in RowBinary."""
    state = encode_series(known.series)
    return _HEAD.pack(series, known.version) + _varint(len(state)) + state


def known_of(row: bytes) -> Known:
    """Read a row back."""
    return _read(row, 0)[1]


async def known_series(store: Store, asked: Sequence[bytes]) -> dict[bytes, Known]:
    """Return the newest state of each asked series that is counted, by hash."""
    found: dict[bytes, Known] = {}
    for start in range(0, len(asked), _AT_ONCE):
        hashes = [series.hex() for series in asked[start : start + _AT_ONCE]]
        raw = await store.read(_SEEN, {"hashes": hashes}, fmt="RowBinary")
        place = 0
        while place < len(raw):
            series = raw[place : place + 16]
            place, found[series] = _read(raw, place)
    return found


def _read(raw: bytes, place: int) -> tuple[int, Known]:
    """Return the place after a row, and what it says."""
    _, version = _HEAD.unpack_from(raw, place)
    place += _HEAD.size
    length = shift = 0
    while True:
        byte = raw[place]
        place += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return place + length, Known(version, decode_series(raw[place : place + length]))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
