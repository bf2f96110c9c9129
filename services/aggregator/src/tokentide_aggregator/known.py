"""Looking up what is already counted: first which calls and which version, then their rows.

Two simple queries, each by primary key: one clever join gets slow as the tables grow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from tokentide_aggregator.fold import Key
from tokentide_aggregator.rows import COLUMNS, LedgerRow, decode_row
from tokentide_common.errors import Unavailable
from tokentide_common.store import Store

T = TypeVar("T")

_SEEN: Final = """
SELECT call_hash, max(version), argMax(occurred_ms, version) FROM seen
WHERE call_hash IN (SELECT toFixedString(unhex(arrayJoin({hashes:Array(String)})), 16))
GROUP BY call_hash
"""
_ROWS: Final = f"""
SELECT {", ".join(COLUMNS)} FROM ledger
WHERE sign = 1 AND (org_id, occurred_at, call_id) IN (
  SELECT wanted.1, fromUnixTimestamp64Milli(wanted.2, 'UTC'), wanted.3 FROM (
    SELECT arrayJoin(
      arrayZip({{orgs:Array(String)}}, {{times:Array(Int64)}}, {{ids:Array(String)}})
    ) AS wanted
  )
)
"""  # noqa: S608 -- the column names are our own struct's
_SEEN_ROW: Final = struct.Struct("<16sIq")
_PARAMETER_BYTES: Final = 100_000  # a server takes 128 KiB in one parameter
_HASH_BYTES: Final = 40  # in hex, with quotes and comma
_PER_CALL_BYTES: Final = 8  # quotes and comma
_PLAIN: Final = re.compile(r"[ -&(-\[\]-~]*")
_MOST_BYTES: Final = 4  # of one character, in UTF-8 or escaped


async def known_rows(store: Store, asked: Mapping[bytes, Key]) -> dict[bytes, LedgerRow]:
    """Return the current row of each asked call that is counted, by call hash.

    "Current" is what `seen` says, never the newest row of the ledger: after a crash the ledger may hold
    the very block that is about to be repeated.
    """
    current = {
        call: (version, occurred_ms)
        for part in _pieces(list(asked), lambda _call: _HASH_BYTES)
        for call, version, occurred_ms in _SEEN_ROW.iter_unpack(
            await store.read(_SEEN, {"hashes": [h.hex() for h in part]}, fmt="RowBinary")
        )
    }
    found: dict[bytes, LedgerRow] = {}
    # All organisations in one query: one for each would cost three times the CPU.
    wanted = [(*asked[call], occurred_ms) for call, (_, occurred_ms) in current.items()]
    call_of = {asked[call]: call for call in current}
    for piece in pieces_of(wanted):
        for row in await _ledger_rows(store, piece):
            call = call_of[row.org_id, row.call_id]
            if row.version == current[call][0]:
                found[call] = row
    if len(found) < len(current):
        # A replica that lags: to take such a call for new would count it twice.
        raise Unavailable("the ledger lags behind the index of seen calls", code="ledger_lags")
    return found


def pieces_of(wanted: Sequence[tuple[str, str, int]]) -> Iterator[Sequence[tuple[str, str, int]]]:
    """Cut (org_id, call_id, milliseconds) into what one query can ask for."""
    return _pieces(wanted, lambda one: max(_bytes_of(one[0]), _bytes_of(one[1])) + _PER_CALL_BYTES)


def _bytes_of(text: str) -> int:
    return len(text) if _PLAIN.fullmatch(text) else len(text) * _MOST_BYTES


async def _ledger_rows(store: Store, wanted: Sequence[tuple[str, str, int]]) -> list[LedgerRow]:
    orgs, ids, times = map(list, zip(*wanted, strict=True))
    raw = await store.read(_ROWS, {"orgs": orgs, "times": times, "ids": ids}, fmt="JSONEachRow")
    return [decode_row(line) for line in raw.splitlines() if line]


def _pieces(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Cut a list so that the parameter made of a piece stays within what a server takes."""
    piece: list[T] = []
    total = 0
    for item in items:
        total += size(item)
        if piece and total > _PARAMETER_BYTES:
            yield piece
            piece, total = [], size(item)
        piece.append(item)
    if piece:
        yield piece
