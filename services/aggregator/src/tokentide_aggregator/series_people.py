"""Gives series of activity the persons of their sessions: reads what is counted, returns what to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from tokentide_aggregator.activity_index import known_series
from tokentide_aggregator.activity_people import conclusion
from tokentide_aggregator.fold import Key
from tokentide_aggregator.known import pieces_of
from tokentide_aggregator.own_questions import answered
from tokentide_aggregator.session_facts import SessionFact, SessionKey, tells_who
from tokentide_common.activity import encode_fact
from tokentide_common.broker import Record
from tokentide_common.identity import call_hash
from tokentide_common.merge import TELEMETRY
from tokentide_common.store import Store

_SERIES: Final = """
SELECT org_id, session_id, series_id, source, user_email FROM activity
WHERE org_id IN {orgs:Array(String)} AND session_id IN {ids:Array(String)}
AND (org_id, session_id) IN (SELECT arrayJoin(arrayZip({orgs:Array(String)}, {ids:Array(String)})))
GROUP BY ALL HAVING sum(sign * value) != 0
"""
_row: Final = msgspec.json.Decoder(tuple[str, str, str, str, str])
_PIECE: Final = 500


class SeriesPeople:
    """Reads until the store answers; an outage is waited out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def owed(
        self,
        facts: Mapping[SessionKey, Sequence[SessionFact]],
        sessions: Iterable[SessionKey],
        series: Mapping[SessionKey, Iterable[str]],
    ) -> list[Record]:
        """Return, by what is known of their sessions, what is not said yet: of these series and of all
        of these sessions.
        """
        found = {
            (session[0], series_id): session
            for session, ids in series.items()
            if tells_who(facts.get(session, ()))
            for series_id in ids
        }
        found |= await self._of_sessions({s: facts[s] for s in sessions if tells_who(facts.get(s, ()))})
        records: list[Record] = []
        keys = sorted(found)
        for start in range(0, len(keys), _PIECE):
            piece = {call_hash(*key): key for key in keys[start : start + _PIECE]}
            states = await answered("links", partial(known_series, self._store, list(piece)))
            for hashed, known in states.items():
                key = piece[hashed]
                fact = conclusion(key, known.series, facts[found[key]])
                if fact is not None:
                    records.append(Record(fact.series_id.encode(), encode_fact(fact)))
        return records

    async def _of_sessions(self, facts: Mapping[SessionKey, Sequence[SessionFact]]) -> dict[Key, SessionKey]:
        """Return the series of sessions, but for those that count for their only person already."""
        found = {}
        for piece in pieces_of([(*session, 0) for session in sorted(facts)]):
            orgs, ids, _ = zip(*piece, strict=True)
            params = {"orgs": list(orgs), "ids": list(ids)}
            read = partial(self._store.read, _SERIES, params, fmt="JSONCompactEachRow")
            lines = (await answered("links", read)).splitlines()
            for org_id, session_id, series_id, source, email in map(_row.decode, lines):
                people = [fact.user_email for fact in facts[org_id, session_id] if fact.user_email]
                if source not in TELEMETRY or people != [email]:
                    found[org_id, series_id] = (org_id, session_id)
        return found
