"""What the store knows of calls by the ids of their answers: who knows no more, and who knows the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from tokentide_aggregator.counted_call import millis
from tokentide_aggregator.fold import Key
from tokentide_aggregator.known import current_rows, pieces_of
from tokentide_aggregator.notice import Bridge
from tokentide_aggregator.own_questions import answered
from tokentide_aggregator.rows import state_of_row
from tokentide_common.identity import known_by, message_of
from tokentide_common.merge import State
from tokentide_common.retry import until_available
from tokentide_common.store import Store

Pair = tuple[str, str, str]
"""(org_id, the call that is known by its message alone, the call of which somebody knows more)."""
# Two sources of a call differ by their clocks and by what they take for its time, not by more than this.
_APART: Final = timedelta(days=1)
_ASKED: Final = (
    "org_id IN {orgs:Array(String)} AND {id} IN {ids:Array(String)}"
    " AND (org_id, {id}) IN (SELECT arrayJoin(arrayZip({orgs:Array(String)}, {ids:Array(String)})))"
)
_FROM: Final = "fromUnixTimestamp64Milli({from:Int64}, 'UTC')"
_TO: Final = "fromUnixTimestamp64Milli({to:Int64}, 'UTC')"
_MESSAGES: Final = f"""
SELECT DISTINCT org_id, call_id FROM message_calls
WHERE {_ASKED.replace("{id}", "call_id")} AND day BETWEEN toDate({_FROM}, 'UTC') AND toDate({_TO}, 'UTC')
"""  # noqa: S608 -- our own words
_BRIDGES: Final = f"""
SELECT DISTINCT org_id, message_id, call_id FROM ledger
WHERE {_ASKED.replace("{id}", "message_id")} AND occurred_at BETWEEN {_FROM} AND {_TO}
"""  # noqa: S608 -- our own words
_ALL_BRIDGES: Final = """
SELECT DISTINCT org_id, message_id, call_id FROM ledger
WHERE (org_id, message_id) IN (SELECT org_id, trimLeft(call_id, ':') FROM message_calls)
"""
_key: Final = msgspec.json.Decoder(Key)
_bridge: Final = msgspec.json.Decoder(Pair)


class MessageBook:
    """Reads and writes until the store answers; an outage is waited out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, messages: Mapping[Key, datetime]) -> None:
        """Add calls that are known by their messages alone; those that are known already change nothing."""
        lines = [
            msgspec.json.encode({"org_id": org_id, "day": at.date(), "call_id": call_id})
            for (org_id, call_id), at in sorted(messages.items())
        ]
        # Repeatable without a token: the table is a set.
        await until_available("links", lambda: self._store.insert("message_calls", b"\n".join(lines)))

    async def of_messages(self, messages: Mapping[Key, datetime]) -> set[Pair]:
        """Return pairs for calls that are known by their messages alone."""
        asked = [(org_id, message_of(call_id), at) for (org_id, call_id), at in messages.items()]
        return _pairs(await self._read(_BRIDGES, asked))

    async def of_bridges(self, bridges: Mapping[str, Sequence[Bridge]]) -> set[Pair]:
        """Return pairs for calls, by organisation, whose sources know more."""
        each = [(org_id, *bridge) for org_id, found in bridges.items() for bridge in found]
        asked = [(org_id, known_by(message_id), at) for org_id, message_id, _, at in each]
        known = {_key.decode(line) for line in await self._read(_MESSAGES, asked)}
        pairs = ((org_id, known_by(message_id), call_id) for org_id, message_id, call_id, _ in each)
        return {pair for pair in pairs if pair[:2] in known}

    async def all_pairs(self) -> set[Pair]:
        """Return all pairs that there are."""
        raw = await until_available("links", lambda: self._store.read(_ALL_BRIDGES, fmt="JSONCompactEachRow"))
        return _pairs(raw.splitlines())

    async def states(self, calls: Iterable[Key]) -> dict[Key, State]:
        """Return what is known of calls that are counted."""
        found = await answered("links", partial(current_rows, self._store, list(calls)))
        return {key: state_of_row(row) for key, row in found.items()}

    async def _read(self, sql: str, asked: Sequence[tuple[str, str, datetime]]) -> list[bytes]:
        lines: list[bytes] = []
        for piece in pieces_of([(org_id, one, millis(at)) for org_id, one, at in asked]):
            orgs, ids, times = zip(*piece, strict=True)
            apart = _APART // timedelta(milliseconds=1)
            params = {
                "orgs": list(orgs),
                "ids": list(ids),
                "from": min(times) - apart,
                "to": max(times) + apart,
            }
            read = partial(self._store.read, sql, params, fmt="JSONCompactEachRow")
            lines += (await answered("links", read)).splitlines()
        return lines


def _pairs(lines: Iterable[bytes]) -> set[Pair]:
    found = (_bridge.decode(line) for line in lines)
    return {
        (org_id, known_by(message_id), call_id)
        for org_id, message_id, call_id in found
        if not message_of(call_id)
    }
