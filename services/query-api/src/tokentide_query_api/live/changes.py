"""What one record of counted calls changes, as far as a caller may see it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from tokentide_query_api.measures import NO_SUMS, measures, usd
from tokentide_query_api.scope import AnyOf, Sight

_CALLS_SHOWN: Final = 50
_SUMMED: Final = (
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "web_search_requests", "cost_nano", "reported_cost_nano"),
)
_SHOWN: Final = (
    *("call_id", "user_id", "user_email", "machine_id", "session_id", "project", "git_branch", "team"),
    *("agent", "client", "provider", "model", "status", "sources", "duration_ms", "version"),
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "unpriced"),
)


class CountedRow(msgspec.Struct, kw_only=True, gc=False):
    """A signed row of the ledger, as far as live views show it."""

    org_id: str
    call_id: str
    occurred_at: datetime
    same_as: str = ""
    sign: int = 1
    version: int = 0
    user_id: str = ""
    user_email: str = ""
    machine_id: str = ""
    session_id: str = ""
    project: str = ""
    git_branch: str = ""
    team: str = ""
    agent: str = ""
    client: str = ""
    provider: str = ""
    model: str = ""
    status: str = "ok"
    sources: list[str] = []
    duration_ms: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0
    cost_nano: int = 0
    reported_cost_nano: int = 0
    unpriced: bool = False


_decoder: Final = msgspec.json.Decoder(CountedRow)
Changes = Mapping[str, Sequence[CountedRow]]
"""Rows by organisation."""


def read_changes(value: bytes) -> Changes:
    """Return the rows of a record by organisation. Raises `msgspec.MsgspecError` for what is none."""
    found: dict[str, list[CountedRow]] = {}
    for line in value.split(b"\n"):
        row = _decoder.decode(line)
        if not row.same_as:  # what is counted under another id is no call of its own
            found.setdefault(row.org_id, []).append(row)
    return found


def change_seen(changes: Changes, sight: Sight) -> bytes | None:
    """Return what a caller is told of a record, as JSON: sums, and calls where they may see any.

    None where nothing of it is theirs to see.
    """
    rows = [row for row in changes.get(sight.org_id, ()) if _passes(sight.own, row)]
    if not rows:
        return None
    told: dict[str, Any] = {"totals": measures(_sums(rows))}
    if sight.people:
        told["calls"] = [_call(row) for row in rows if row.sign > 0][-_CALLS_SHOWN:]
    return msgspec.json.encode(told)


def _passes(own: AnyOf | None, row: CountedRow) -> bool:
    if own is None:
        return True
    for each in own.filters:
        value: str = getattr(row, each.dimension.column)
        if (value.lower() if each.fold else value) in each.values:
            return True
    return False


def _sums(rows: Iterable[CountedRow]) -> Mapping[str, int]:
    sums = dict(NO_SUMS)
    for row in rows:
        sums["calls"] += row.sign
        sums["errors"] += row.sign * (row.status != "ok")
        sums["unpriced_calls"] += row.sign * row.unpriced
        for name in _SUMMED:
            sums[name] += row.sign * getattr(row, name)
    return sums


def _call(row: CountedRow) -> Mapping[str, Any]:
    shown = {name: getattr(row, name) for name in _SHOWN}
    return {"occurred_at": row.occurred_at, **shown, "cost_usd": usd(row.cost_nano)}
