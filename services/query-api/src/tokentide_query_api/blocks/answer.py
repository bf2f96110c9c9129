"""`GET /api/v1/blocks`: each account's windows, the active one first, with its pace and where it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from tokentide_common.limit_facts import LimitFact
from tokentide_query_api.asking import Asking
from tokentide_query_api.blocks.entries import Account, calls_by_account, latest_accounts, windows_told
from tokentide_query_api.blocks.forecast import burn, projection
from tokentide_query_api.blocks.windows import (
    WEEK_MS,
    Block,
    Entry,
    Sums,
    blocks_of,
    overlap_minutes,
    sums_of,
)
from tokentide_query_api.dimensions import MINUTE_MS
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.measures import usd
from tokentide_query_api.reports.report import TOP

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "total_tokens")
COLUMNS: Final = (
    *columns(Kind.TEXT, "account"),
    *columns(Kind.TIME, "start", "end", "first_call_at", "last_call_at"),
    *columns(Kind.FLAG, "is_active", "is_gap", "pinned"),
    *columns(Kind.COUNT, "calls", *_TOKENS),
    *columns(Kind.USD, "cost_usd"),
    *columns(Kind.COUNT, "overlap_minutes"),
    *columns(Kind.NESTED, "models", "machines", "burn_rate", "projection"),
)


async def blocks(ask: Asking) -> Answer:
    """Answer the blocks of the accounts that called last, newest first.

    Where a block begins depends on the calls before it: they are read from a week earlier.
    """
    period = ask.period()
    now_ms = _millis(ask.now)
    since_ms = min(period.start_ms, now_ms) - WEEK_MS
    scope = ask.scope(since_ms, max(period.end_ms, now_ms))
    (accounts, names, theirs), told = await asyncio.gather(
        latest_accounts(ask, scope, ask.arguments.number(TOP)), windows_told(ask)
    )
    calls = await calls_by_account(ask, theirs, accounts, _cuts(told), (now_ms - WEEK_MS, now_ms + 1))
    items, table = [], []
    for name in names:
        account = calls.get(name, Account())
        resets = {kind: _resets(name, account.key_ids, told, kind) for kind in ("unified_5h", "unified_7d")}
        found = [
            b
            for b in blocks_of(account.entries, resets["unified_5h"])
            if b.end_ms > period.start_ms and b.start_ms < period.end_ms
        ]
        rows = [_row(name, block, now_ms, period.zone) for block in reversed(found)]
        active = next((row for row in rows if row["is_active"]), None)
        items.append(
            {
                "account": name,
                "active": active,
                "week": _week(account.entries, resets["unified_7d"], now_ms, period.zone),
                "blocks": rows,
            }
        )
        table += rows
    body = {
        "as_of": _text(now_ms, period.zone),
        "tz": period.zone.key,
        "accounts": items,
    }
    return Answer(body, COLUMNS, table)


def _cuts(told: Mapping[str, Sequence[LimitFact]]) -> list[int]:
    """Return at which milliseconds of a minute 5-hour windows may begin or end.

    They are whole minutes long, and begin on a full hour or where one that was told ends.
    """
    resets = (fact.resets_at for facts in told.values() for fact in facts)
    return sorted({0, *(_millis(reset) % MINUTE_MS for reset in resets if reset is not None)})


def _resets(
    name: str, key_ids: Iterable[str], told: Mapping[str, Sequence[LimitFact]], kind: str
) -> list[int]:
    """Return when windows of a kind end, the newest word first.

    Several accounts may use a key: what was told under it counts for one that has no word of its own.
    """
    own = told.get(name, ())
    under_keys = [fact for key in sorted(key_ids) for fact in told.get(key, ())]
    for facts in (own, under_keys):
        found = [(f.observed_at, f.resets_at) for f in facts if f.kind == kind and f.resets_at is not None]
        if found:
            return [_millis(resets_at) for _, resets_at in sorted(found, reverse=True)]
    return []


def _row(account: str, block: Block, now_ms: int, zone: ZoneInfo) -> Mapping[str, Any]:
    rate, ahead = burn(block), projection(block, now_ms)
    return {
        "account": account,
        "start": _text(block.start_ms, zone),
        "end": _text(block.end_ms, zone),
        "first_call_at": _text(block.first_ms, zone) if block.entries else None,
        "last_call_at": _text(block.last_ms, zone) if block.entries else None,
        "is_active": block.is_active(now_ms),
        "is_gap": block.is_gap,
        "pinned": block.pinned,
        **_told(block.sums),
        "overlap_minutes": overlap_minutes(block.machines),
        "models": sorted({entry.model for entry in block.entries}),
        "machines": [{"machine_id": id_, **_told(own)} for id_, own in block.machine_sums.items()],
        "burn_rate": None if rate is None else msgspec.to_builtins(rate),
        "projection": None if ahead is None else msgspec.to_builtins(ahead),
    }


def _week(entries: Sequence[Entry], resets: Sequence[int], now_ms: int, zone: ZoneInfo) -> Mapping[str, Any]:
    """Return the weekly window: the provider's own where it is told and lasts, else the last seven days."""
    end_ms = next((reset for reset in resets if reset > now_ms), None)
    start_ms = now_ms - WEEK_MS if end_ms is None else end_ms - WEEK_MS
    return {
        "start": _text(start_ms, zone),
        "end": _text(now_ms if end_ms is None else end_ms, zone),
        "pinned": end_ms is not None,
        **_told(sums_of([entry for entry in entries if start_ms <= entry.first_ms <= now_ms])),
    }


def _told(used: Sums) -> dict[str, Any]:
    counts = {name: getattr(used, name) for name in ("calls", *_TOKENS)}
    return {**counts, "cost_usd": usd(used.cost_nano)}


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _text(millis: int, zone: ZoneInfo) -> str:
    return (_EPOCH + timedelta(milliseconds=millis)).astimezone(zone).isoformat(timespec="milliseconds")
