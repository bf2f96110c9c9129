"""Looking up what is already counted: first which calls and which version, then their rows.

Two simple queries, each by primary key: one clever join gets slow as the tables grow.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from tokentide_aggregator.rows import COLUMNS, LedgerRow, decode_row
from tokentide_common.errors import Unavailable
from tokentide_common.store import Store

T = TypeVar("T")

CallKey = tuple[str, str]
"""(org_id, call_id)."""

_SEEN: Final = """
SELECT call_hash, max(version), argMax(occurred_ms, version) FROM seen
WHERE call_hash IN (SELECT toFixedString(unhex(arrayJoin({hashes:Array(String)})), 16))
GROUP BY call_hash
"""
_ROWS: Final = f"""
SELECT {", ".join(COLUMNS)} FROM ledger
WHERE org_id = {{org_id:String}} AND sign = 1 AND (occurred_at, call_id) IN (
  SELECT fromUnixTimestamp64Milli(wanted.1, 'UTC'), wanted.2
  FROM (SELECT arrayJoin(arrayZip({{times:Array(Int64)}}, {{ids:Array(String)}})) AS wanted)
)
"""  # noqa: S608 -- the column names are our own struct's
_SEEN_ROW: Final = struct.Struct("<16sIq")
_IDS_PER_QUERY: Final = 2000  # keeps parameters within the 1 MiB that a server takes


async def known_rows(store: Store, asked: Mapping[bytes, CallKey]) -> dict[bytes, LedgerRow]:
    """Return the current row of each asked call that is counted, by call hash.

    "Current" is what `seen` says, never the newest row of the ledger: after a crash the ledger may hold
    the very block that is about to be repeated.
    """
    current = {
        call: (version, occurred_ms)
        for part in _chunks(list(asked))
        for call, version, occurred_ms in _SEEN_ROW.iter_unpack(
            await store.read(_SEEN, {"hashes": [h.hex() for h in part]}, fmt="RowBinary")
        )
    }
    by_org: dict[str, list[tuple[bytes, str, int]]] = defaultdict(list)
    for call, (_, occurred_ms) in current.items():
        org_id, call_id = asked[call]
        by_org[org_id].append((call, call_id, occurred_ms))
    found: dict[bytes, LedgerRow] = {}
    for org_id, wanted in by_org.items():
        for piece in _chunks(wanted):
            hash_of = {call_id: call for call, call_id, _ in piece}
            for row in await _ledger_rows(store, org_id, piece):
                call = hash_of[row.call_id]
                if row.version == current[call][0]:
                    found[call] = row
    if len(found) < len(current):
        # A replica that lags: to take such a call for new would count it twice.
        raise Unavailable("the ledger lags behind the index of seen calls", code="ledger_lags")
    return found


async def _ledger_rows(
    store: Store, org_id: str, wanted: Iterable[tuple[bytes, str, int]]
) -> list[LedgerRow]:
    ids, times = zip(*((call_id, ms) for _, call_id, ms in wanted), strict=True)
    raw = await store.read(
        _ROWS, {"org_id": org_id, "times": list(times), "ids": list(ids)}, fmt="JSONEachRow"
    )
    return [decode_row(line) for line in raw.splitlines() if line]


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _IDS_PER_QUERY):
        yield items[start : start + _IDS_PER_QUERY]
