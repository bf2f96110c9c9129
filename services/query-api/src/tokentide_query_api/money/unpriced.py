"""`unpriced`: models that had no price, and what their calls cost by the price file of today."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokentide_common.pricing.rates import LinearRates
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, TOKEN_SUMS
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import total_tokens, usd
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import key_values, narrowed
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.reports.typed_costs import alike_calls, round_half_even

_UNPRICED: Final = DIMENSIONS["unpriced"]
_BY: Final = (DIMENSIONS["provider"], DIMENSIONS["model"])
_COUNTS: Final = (*TOKEN_SUMS, "web_search_requests")


async def _unpriced(ask: Asking, period: Period) -> Sequence[Row]:
    scope = narrowed(ask.scope(period.start_ms, period.end_ms), _UNPRICED, ["true"])
    groups: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row, rates in await alike_calls(ask, scope, _BY):
        group = groups[key_values(row, 2)]
        for name in ("calls", *_COUNTS):
            group[name] += row[name]
        if rates is not None:
            group["priceable_calls"] += row["calls"]
            group["nano"] += cost_of(row, rates)
    order = sorted(groups, key=lambda key: (-total_tokens(groups[key]), key))
    return [
        {
            "provider": key[0],
            "model": key[1],
            "unpriced_calls": groups[key]["calls"],
            **{name: groups[key][name] for name in _COUNTS},
            "total_tokens": total_tokens(groups[key]),
            "priceable_calls": groups[key]["priceable_calls"],
            "would_cost_usd": usd(groups[key]["nano"]) if groups[key]["priceable_calls"] else None,
        }
        for key in order[: ask.arguments.number(TOP)]
    ]


def cost_of(row: Mapping[str, Any], rates: LinearRates) -> int:
    """Return what alike calls cost together at these rates, in nano-dollars. Pure."""
    amount = (
        row["calls"] * rates.request
        + row["input_tokens"] * rates.input
        + row["cache_read_tokens"] * rates.cache_read
        + row["cache_write_5m_tokens"] * rates.cache_write_5m
        + row["cache_write_1h_tokens"] * rates.cache_write_1h
        + row["output_tokens"] * rates.output
        + row["reasoning_tokens"] * rates.reasoning_extra
        + row["web_search_requests"] * rates.web_search
    )
    return round_half_even(amount, rates.nano)


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "provider", "model"),
    *columns(Kind.COUNT, "unpriced_calls", *_COUNTS, "total_tokens", "priceable_calls"),
    *columns(Kind.AMOUNT, "would_cost_usd"),
)
REPORTS: Final = (
    Report(
        "unpriced",
        "Models without a price: their calls and tokens, and what they would cost by the price file of today",
        _COLUMNS,
        _unpriced,
        (TOP,),
    ),
)
