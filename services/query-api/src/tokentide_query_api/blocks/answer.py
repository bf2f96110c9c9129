"""`GET /api/v1/blocks`: each account's windows, the active one first, with its pace and where it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tokentide_common.limit_facts import LimitFact
from tokentide_query_api.asking import Asking
from tokentide_query_api.blocks.entries import calls_by_account, latest_accounts, windows_told
from tokentide_query_api.blocks.forecast import burn, projection
from tokentide_query_api.blocks.windows import (
    HOUR_MS,
    WEEK_MS,
    Block,
    Entry,
    Sums,
    blocks_of,
    overlap_minutes,
    sums_of,
)
from tokentide_query_api.blocks.zone_texts import texts_in
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
    start_ms, end_ms, now_ms = period.start_ms, period.end_ms, _millis(ask.now)
    scope = ask.scope(min(start_ms, now_ms) - WEEK_MS, max(end_ms, now_ms))
    latest, told = await asyncio.gather(
        latest_accounts(ask, scope, ask.arguments.number(TOP)), windows_told(ask)
    )
    calls = await calls_by_account(ask, latest, _cuts(told, latest.key_ids), (now_ms - WEEK_MS, now_ms + 1))
    text = texts_in(period.zone)
    items, table = [], []
    for name, key_ids in latest.key_ids.items():
        entries = calls.get(name, ())
        resets = {kind: _resets(name, key_ids, told, kind) for kind in ("unified_5h", "unified_7d")}
        found = blocks_of(entries, resets["unified_5h"])
        rows = [
            _row(name, block, now_ms, text)
            for block in reversed(found)
            if block.end_ms > start_ms and block.start_ms < end_ms
        ]
        active = next((row for row in rows if row["is_active"]), None)
        week = _week(entries, resets["unified_7d"], now_ms, text)
        items.append({"account": name, "active": active, "week": week, "blocks": rows})
        table += rows
    body = {
        "as_of": text(now_ms),
        "tz": period.zone.key,
        "accounts": items,
    }
    return Answer(body, COLUMNS, table)


def _cuts(told: Mapping[str, Sequence[LimitFact]], key_ids: Mapping[str, Collection[str]]) -> Sequence[int]:
    """Return at which milliseconds of an hour windows of these accounts may begin or end.

    They are whole hours long, and begin on a full hour or where one that was told ends.
    """
    whose = {*key_ids, *(key for keys in key_ids.values() for key in keys)}
    resets = (fact.resets_at for each in whose for fact in told.get(each, ()))
    return sorted({0, *(_millis(reset) % HOUR_MS for reset in resets if reset is not None)})


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


def _row(account: str, block: Block, now_ms: int, text: Callable[[int], str]) -> Mapping[str, Any]:
    told = _told(block.sums)
    return {
        "account": account,
        "start": text(block.start_ms),
        "end": text(block.end_ms),
        "first_call_at": text(block.first_ms) if block.entries else None,
        "last_call_at": text(block.last_ms) if block.entries else None,
        "is_active": block.is_active(now_ms),
        "is_gap": block.is_gap,
        "pinned": block.pinned,
        **told,
        "overlap_minutes": overlap_minutes(block.machines),
        "models": sorted({entry.model for entry in block.entries}),
        "machines": [
            {"machine_id": id_, **(told if own is block.sums else _told(own))}
            for id_, own in block.machine_sums.items()
        ],
        "burn_rate": burn(block),
        "projection": projection(block, now_ms),
    }


def _week(
    entries: Sequence[Entry], resets: Sequence[int], now_ms: int, text: Callable[[int], str]
) -> Mapping[str, Any]:
    """Return the weekly window: the provider's own where it is told and lasts, else the last seven days."""
    end_ms = next((reset for reset in resets if reset > now_ms), None)
    start_ms = now_ms - WEEK_MS if end_ms is None else end_ms - WEEK_MS
    return {
        "start": text(start_ms),
        "end": text(now_ms if end_ms is None else end_ms),
        "pinned": end_ms is not None,
        **_told(sums_of(entry for entry in entries if start_ms <= entry.first_ms <= now_ms)),
    }


def _told(used: Sums) -> dict[str, Any]:
    return {
        "calls": used.calls,
        "input_tokens": used.input_tokens,
        "cache_read_tokens": used.cache_read_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        "output_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "cost_usd": usd(used.cost_nano),
    }


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
