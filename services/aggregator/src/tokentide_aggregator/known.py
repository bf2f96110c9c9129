"""Looking up what is already counted: first which calls and which version, then their rows.

Two simple queries, each by primary key: one clever join gets slow as the tables grow.
"""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from tokentide_aggregator.counted_call import (
    DIGESTS_BYTES,
    CountedCall,
    Indexed,
    says_nothing_new,
)
from tokentide_aggregator.fold import Group, Key
from tokentide_aggregator.foreseen import Priced, foreseen_event, foreseen_row
from tokentide_aggregator.rows import COLUMNS, LedgerRow, decode_row
from tokentide_common.errors import Unavailable
from tokentide_common.events import UsageEvent
from tokentide_common.identity import call_hash
from tokentide_common.store import Store

T = TypeVar("T")
IsGone = Callable[[str, int, int | None], bool]
"""Tells of an organisation and a time in milliseconds whether a row of then may be deleted for its age: at
another such time, or now (None)."""

_SEEN: Final = f"""
SELECT call_hash, newest, said.1, said.2, toUInt8(length(said.3)), toFixedString(said.3, {DIGESTS_BYTES})
FROM (
  SELECT call_hash, max(version) AS newest, argMax((occurred_ms, observed_ms, digests), version) AS said
  FROM seen WHERE call_hash IN (
    SELECT arrayJoin(reinterpret(base64Decode({{hashes:String}}), 'Array(FixedString(16))'))
  )
  GROUP BY call_hash
)
"""  # noqa: S608 -- a number of our own
# The times first: of the thousand rows in each granule that is read few have such a time, and to judge all
# of them by three columns took a third of the look-up.
_WANTED: Final = """
FROM ledger
PREWHERE occurred_at IN (SELECT fromUnixTimestamp64Milli(arrayJoin({times:Array(Int64)}), 'UTC'))
WHERE sign = 1 AND (org_id, occurred_at, call_id) IN (
  SELECT wanted.1, fromUnixTimestamp64Milli(wanted.2, 'UTC'), wanted.3 FROM (
    SELECT arrayJoin(
      arrayZip({orgs:Array(String)}, {times:Array(Int64)}, {ids:Array(String)})
    ) AS wanted
  )
)
"""
_ROWS: Final = f"SELECT {', '.join(COLUMNS)} {_WANTED}"
_PRICED: Final = f"SELECT {', '.join(Priced.__struct_fields__)} {_WANTED}"
_SEEN_ROW: Final = struct.Struct(f"<16sIqqB{DIGESTS_BYTES}s")
_PARAMETER_BYTES: Final = 100_000  # a server takes 128 KiB in one parameter
_HASH_BYTES: Final = 22  # in base64
_PER_CALL_BYTES: Final = 8  # quotes and comma
_PLAIN: Final = re.compile(r"[ -&(-\[\]-~]*")
_priced: Final = msgspec.json.Decoder(Priced)
_MOST_BYTES: Final = 4  # of one character, in UTF-8 or escaped


async def known_calls(
    store: Store, asked: Mapping[bytes, Group[UsageEvent]], is_gone: IsGone
) -> dict[bytes, CountedCall]:
    """Return what is known of each asked call that is counted, by call hash.

    "Current" is what `seen` says, never the newest row of the ledger: after a crash the ledger may hold
    the very block that is about to be repeated. Where `seen` itself tells that all events are repeats, no
    row is read: a point look-up in a table of many columns is what costs most as the store grows. Where
    the events tell what the row was made of, its price and digest are read alone.
    A call whose row may have been deleted for its age is answered so, too.
    """
    known: dict[bytes, CountedCall] = {}
    current: dict[bytes, Indexed] = {}
    foreseen: dict[Key, UsageEvent] = {}
    for call, indexed in await _seen(store, list(asked)):
        said = asked[call]
        index_alone = CountedCall(None, indexed.observed_ms, indexed.digests)
        if not said.priced_anew and says_nothing_new(said.events, indexed.observed_ms, indexed.digests):
            known[call] = index_alone
        elif is_gone(said.key[0], indexed.occurred_ms, said.at_ms):
            # The guarantee: it was counted once and stays so; what nobody can take back is not put in anew.
            # Judged by when its record arrived, so that a replay of a half-written block judges the same.
            known[call] = index_alone
        else:
            current[call] = indexed
            if before := foreseen_event(said.events, indexed):
                foreseen[said.key] = before
    call_of = {asked[call].key: call for call in current}
    at = [(*key, current[call_of[key]].occurred_ms) for key in foreseen]
    for priced in await _priced_rows(store, at):
        call = call_of[key := (priced.org_id, priced.call_id)]
        indexed = current[call]
        if priced.version == indexed.version and (row := foreseen_row(foreseen[key], priced)):
            known[call] = CountedCall(row, indexed.observed_ms, indexed.digests)
    wanted = [(*key, current[call].occurred_ms) for key, call in call_of.items() if call not in known]
    # All organisations in one query: one for each would cost three times the CPU.
    for piece in pieces_of(wanted):
        for row in await _ledger_rows(store, piece):
            call = call_of[row.org_id, row.call_id]
            indexed = current[call]
            if row.version == indexed.version:
                known[call] = CountedCall(row, indexed.observed_ms, indexed.digests)
    for call in current.keys() - known.keys():
        indexed = current[call]
        if is_gone(asked[call].key[0], indexed.occurred_ms, None):
            known[call] = CountedCall(None, indexed.observed_ms, indexed.digests)
            continue
        # A replica that lags: to take such a call for new would count it twice.
        raise Unavailable("the ledger lags behind the index of seen calls", code="ledger_lags")
    return known


async def current_rows(store: Store, calls: Iterable[Key]) -> dict[Key, LedgerRow]:
    """Return the rows of those calls that are counted, as the index has them now."""
    key_of = {call_hash(*key): key for key in calls}
    newest = {}
    wanted = []
    for call, indexed in await _seen(store, list(key_of)):
        newest[key_of[call]] = indexed.version
        wanted.append((*key_of[call], indexed.occurred_ms))
    return {
        key: row
        for piece in pieces_of(wanted)
        for row in await _ledger_rows(store, piece)
        if newest[key := (row.org_id, row.call_id)] == row.version
    }


async def _seen(store: Store, calls: Sequence[bytes]) -> list[tuple[bytes, Indexed]]:
    return [
        (call, Indexed(version, occurred_ms, observed_ms, padded[:size]))
        for part in _pieces(calls, lambda _call: _HASH_BYTES)
        for call, version, occurred_ms, observed_ms, size, padded in _SEEN_ROW.iter_unpack(
            await store.read(_SEEN, {"hashes": b64encode(b"".join(part)).decode()}, fmt="RowBinary")
        )
    ]


def pieces_of(wanted: Sequence[tuple[str, str, int]]) -> Iterator[Sequence[tuple[str, str, int]]]:
    """Cut (org_id, call_id, milliseconds) into what one query can ask for."""
    return _pieces(wanted, lambda one: max(_bytes_of(one[0]), _bytes_of(one[1])) + _PER_CALL_BYTES)


def _bytes_of(text: str) -> int:
    return len(text) if _PLAIN.fullmatch(text) else len(text) * _MOST_BYTES


async def _priced_rows(store: Store, wanted: Sequence[tuple[str, str, int]]) -> list[Priced]:
    return [
        priced
        for piece in pieces_of(wanted)
        for priced in _priced.decode_lines(await _found(store, _PRICED, piece))
    ]


async def _ledger_rows(store: Store, wanted: Sequence[tuple[str, str, int]]) -> list[LedgerRow]:
    raw = await _found(store, _ROWS, wanted, fmt="JSONEachRow")
    return [decode_row(line) for line in raw.splitlines() if line]


async def _found(
    store: Store, sql: str, wanted: Sequence[tuple[str, str, int]], *, fmt: str = "JSONCompactEachRow"
) -> bytes:
    orgs, ids, times = map(list, zip(*wanted, strict=True))
    return await store.read(sql, {"orgs": orgs, "times": times, "ids": ids}, fmt=fmt)


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
