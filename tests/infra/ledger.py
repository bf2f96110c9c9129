"""Blocks of calls for the ledger, and what every table that they reach adds up to."""

from __future__ import annotations

from collections.abc import Sequence

from tokentide_common.store import Store, rows

ROLLUPS = (
    *("usage_15m", "usage_15m_model", "usage_day_model", "usage_session", "usage_day"),
    *("usage_day_person", "usage_day_machine", "usage_day_project", "usage_day_price", "usage_minute_model"),
    *("usage_day_minutes", "usage_session_hour"),
    *("usage_month_digest", "usage_hour_digest", "usage_hour_person"),
)
# They count calls, and nothing else that others sum.
_OF_CALLS = {
    "usage_day_minutes": "sum(arraySum(minutesMap.calls))",
    "usage_month_digest": "sumIf(arraySum(daysMap.calls), what = 0)",
    "usage_hour_digest": "sumIf(calls, what = 0)",
}
MEASURES = ("input_tokens", "output_tokens", "cost_nano")


def block_of_calls(count: int, *, start: int = 0) -> bytes:
    """Return `count` new calls as JSON lines, over two months, many users, models and sessions."""
    lines = [
        f'{{"call_id":"call-{n}","org_id":"org","sources":["cli"],"sign":1,'
        f'"occurred_at":"2026-{9 + n % 2:02d}-{1 + n % 28:02d}T10:{n % 60:02d}:00Z",'
        f'"user_id":"user-{n % 50}","session_id":"session-{n % 500}","model":"model-{n % 5}",'
        f'"input_tokens":{n % 100},"output_tokens":{n % 77},"cost_nano":{n % 1000},"duration_ms":{n % 9000}}}'
        for n in range(start, start + count)
    ]
    return "\n".join(lines).encode() + b"\n"


def same_calls_in_other_bytes(block: bytes) -> bytes:
    """Return the same calls in another order, padded: more bytes, so other parse chunks."""
    lines = block.splitlines()
    return b"\n".join(line[:-1] + b" " * 150 + b"}" for line in reversed(lines)) + b"\n"


async def totals(store: Store, rollups: Sequence[str] = ROLLUPS) -> dict[str, tuple[int, ...]]:
    """Return calls, tokens and cost of the ledger and of each rollup; exact data makes all of them equal."""
    signed = ", ".join(f"sum(sign * {measure})" for measure in MEASURES)
    plain = ", ".join(f"sum({measure})" for measure in MEASURES)
    questions = [f"SELECT 'ledger' AS place, sum(sign), {signed} FROM ledger"]
    questions += [
        f"SELECT '{name}' AS place, sum(calls), {plain} FROM {name}"
        for name in rollups
        if name not in _OF_CALLS
    ]
    questions += [
        f"SELECT '{name}' AS place, (SELECT {counted} FROM {name}), {plain} FROM usage_day"
        for name, counted in _OF_CALLS.items()
        if name in rollups
    ]
    found = await rows(store, " UNION ALL ".join(questions))
    return {row.pop("place"): tuple(int(value) for value in row.values()) for row in found}


def expected(*blocks: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the totals of blocks given as (start, count)."""
    calls = [n for start, count in blocks for n in range(start, start + count)]
    sums = (len(calls), sum(n % 100 for n in calls), sum(n % 77 for n in calls), sum(n % 1000 for n in calls))
    return dict.fromkeys(("ledger", *ROLLUPS), sums)
