"""`cache`: how much of the input caches served, what that saved at list prices, and what keeping it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokentide_common.pricing.rates import LinearRates
from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import cache_hit_ratio, usd
from tokentide_query_api.money.daily import at_most_one, key_row
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import key_values
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.reports.typed_costs import alike_calls, round_half_even

BY: Final = Parameter("by", "One dimension; empty: one row of all.", default="model", repeated=True)
_INPUT: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_MONEY: Final = ("saved_by_reads", "paid_for_writes", "paid_for_1h")


async def _cache(ask: Asking, period: Period) -> Sequence[Row]:
    by = at_most_one(ask.arguments.dimensions(BY, least=0))
    groups: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row, rates in await alike_calls(ask, ask.scope(period.start_ms, period.end_ms), by):
        group = groups[key_values(row, len(by))]
        for name in ("calls", *_INPUT):
            group[name] += row[name]
        if rates is None:
            group["unpriced_input_tokens"] += sum(row[name] for name in _INPUT)
        else:
            for name, nano in effects(row, rates).items():
                group[name] += nano
    if not by and not groups:
        groups[()] = defaultdict(int)
    order = sorted(groups, key=lambda key: (-sum(groups[key][name] for name in _INPUT), key))
    return [{**key_row(by, key), **_row(groups[key])} for key in order[: ask.arguments.number(TOP)]]


def effects(row: Mapping[str, Any], rates: LinearRates) -> dict[str, int]:
    """Return what caching did to the cost of alike calls, in nano-dollars, against plain input. Pure."""
    read, short, long = (row[name] for name in _INPUT[1:])
    amounts = {
        "saved_by_reads": read * (rates.input - rates.cache_read),
        "paid_for_writes": short * (rates.cache_write_5m - rates.input)
        + long * (rates.cache_write_1h - rates.input),
        "paid_for_1h": long * (rates.cache_write_1h - rates.cache_write_5m),
    }
    return {name: round_half_even(amount, rates.nano) for name, amount in amounts.items()}


def _row(group: Mapping[str, int]) -> dict[str, Any]:
    saved, paid, paid_for_1h = (group[name] for name in _MONEY)
    return {
        "calls": group["calls"],
        **{name: group[name] for name in _INPUT},
        "cache_hit_ratio": cache_hit_ratio({name: group[name] for name in _INPUT}),
        "saved_by_reads_usd": usd(saved),
        "paid_for_writes_usd": usd(paid),
        "net_saved_usd": usd(saved - paid),
        "extra_for_1h_writes_usd": usd(paid_for_1h),
        "unpriced_input_tokens": group["unpriced_input_tokens"],
    }


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "by", "key"),
    *columns(Kind.COUNT, "calls", *_INPUT),
    *columns(Kind.RATIO, "cache_hit_ratio"),
    *columns(
        Kind.USD, "saved_by_reads_usd", "paid_for_writes_usd", "net_saved_usd", "extra_for_1h_writes_usd"
    ),
    *columns(Kind.COUNT, "unpriced_input_tokens"),
)
REPORTS: Final = (
    Report(
        "cache",
        "How much of the input caches served, what that saved at list prices and what writing them cost",
        _COLUMNS,
        _cache,
        (BY, TOP),
    ),
)
