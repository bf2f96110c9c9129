"""What the store knows of sessions: the facts that telemetry stated, and the calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from tokentide_aggregator.counted_call import millis
from tokentide_aggregator.known import pieces_of
from tokentide_aggregator.own_questions import answered
from tokentide_aggregator.rows import COLUMNS, LedgerRow, decode_row, state_of_row
from tokentide_aggregator.session_facts import SessionFact, SessionKey
from tokentide_common.merge import State
from tokentide_common.retry import until_available
from tokentide_common.store import Store

_SESSIONS: Final = (
    "(org_id, session_id) IN (SELECT arrayJoin(arrayZip({orgs:Array(String)}, {ids:Array(String)})))"
)
_FACTS: Final = f"""
SELECT DISTINCT {", ".join(SessionFact._fields)} FROM session_links WHERE {_SESSIONS}
"""  # noqa: S608 -- the column names are our own struct's
_ORGANIZATIONS: Final = "SELECT DISTINCT org_id FROM session_links WHERE org_id IN {orgs:Array(String)}"
# `session_id IN` by itself lets the store skip what its filter on sessions rules out.
_CALLS: Final = f"""
SELECT {", ".join(COLUMNS)}, sign FROM ledger
WHERE org_id IN {{orgs:Array(String)}} AND session_id IN {{ids:Array(String)}} AND {_SESSIONS}
"""  # noqa: S608 -- the column names are our own struct's
_NEAR: Final = f"""
{_CALLS} AND occurred_at BETWEEN fromUnixTimestamp64Milli({{from:Int64}}, 'UTC')
AND fromUnixTimestamp64Milli({{to:Int64}}, 'UTC')
"""
_OF_ACCOUNTS: Final = """
SELECT DISTINCT org_id, session_id FROM session_links
WHERE kind = 'account' AND org_id IN {orgs:Array(String)} AND (
  (org_id, account_id) IN (SELECT arrayJoin(arrayZip({orgs:Array(String)}, {ids:Array(String)})))
  OR (org_id, device_id) IN (SELECT arrayJoin(arrayZip({orgs:Array(String)}, {ids:Array(String)})))
)
"""
_LONGEST_CALL: Final = timedelta(hours=2)
_COMPACT: Final = "JSONCompactEachRow"
_ALL: Final = """
SELECT DISTINCT org_id, session_id FROM session_links WHERE session_id != '' AND kind != 'known'
ORDER BY org_id, session_id
"""


class _SignedRow(LedgerRow, kw_only=True, gc=False):
    """A row of the ledger with its sign."""

    sign: int = 1


_signed: Final = msgspec.json.Decoder(_SignedRow)
_fact: Final = msgspec.json.Decoder(dict[str, str])
_name: Final = msgspec.json.Decoder(tuple[str])
_session: Final = msgspec.json.Decoder(SessionKey)


class SessionBook:
    """Reads and writes until the store answers; an outage is waited out."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, facts: Sequence[SessionFact]) -> None:
        """Add facts to what is known; those that are known already change nothing."""
        lines = b"\n".join(msgspec.json.encode(fact._asdict()) for fact in facts)
        # Repeatable without a token: the table is a set.
        await until_available("links", lambda: self._store.insert("session_links", lines))

    async def facts(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, list[SessionFact]]:
        """Return the facts of sessions."""
        facts: dict[SessionKey, list[SessionFact]] = defaultdict(list)
        # Of many organisations only logs are ever sent. Of the others everything is read after this, so
        # that whoever reads last still finds all.
        asked = list(sessions)
        orgs = await self._with_facts({org_id for org_id, _ in asked})
        for line in await self._read(_FACTS, (s for s in asked if s[0] in orgs), {}):
            fact = SessionFact(**_fact.decode(line))
            facts[fact.session].append(fact)
        return facts

    async def _with_facts(self, orgs: set[str]) -> set[str]:
        if not orgs:
            return orgs
        read = partial(self._store.read, _ORGANIZATIONS, {"orgs": sorted(orgs)}, fmt=_COMPACT)
        return {_name.decode(line)[0] for line in (await answered("links", read)).splitlines()}

    async def calls(self, sessions: Iterable[SessionKey], near: Sequence[datetime] = ()) -> list[State]:
        """Return the calls of sessions as the ledger has them now; all, or those around some moments."""
        signs: dict[tuple[str, str, int], int] = defaultdict(int)
        rows = {}
        lines = self._read(_NEAR, sessions, _around(near)) if near else self._read(_CALLS, sessions, {})
        for line in await lines:
            row = _signed.decode(line)
            key = (row.org_id, row.call_id, row.version)
            signs[key] += row.sign
            rows[key] = line
        return [state_of_row(decode_row(line)) for key, line in rows.items() if signs[key] > 0]

    async def of_accounts(self, known: Iterable[SessionFact]) -> list[SessionKey]:
        """Return the sessions whose telemetry names these accounts or devices, and nobody with them."""
        asked = {(fact.org_id, fact.account_id or fact.device_id) for fact in known}
        return sorted({_session.decode(line) for line in await self._read(_OF_ACCOUNTS, asked, {}, _COMPACT)})

    async def sessions(self) -> list[SessionKey]:
        """Return all sessions of which there are facts."""
        raw = await until_available("links", lambda: self._store.read(_ALL, fmt=_COMPACT))
        return [_session.decode(line) for line in raw.splitlines()]

    async def _read(
        self, sql: str, sessions: Iterable[SessionKey], period: Mapping[str, int], fmt: str = "JSONEachRow"
    ) -> list[bytes]:
        lines: list[bytes] = []
        for piece in pieces_of([(*session, 0) for session in sorted(sessions)]):
            orgs, ids, _ = zip(*piece, strict=True)
            params = {"orgs": list(orgs), "ids": list(ids), **period}
            lines += (await answered("links", partial(self._store.read, sql, params, fmt=fmt))).splitlines()
        return lines


def _around(moments: Iterable[datetime]) -> dict[str, int]:
    """Return a period in which everything is that can be the same call as something of these moments."""
    known = sorted(moments)
    return {"from": millis(known[0] - _LONGEST_CALL), "to": millis(known[-1] + _LONGEST_CALL)}
