"""From sums to the measures of a response. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tokentide_query_api.dimensions import SUMS, TOKEN_SUMS, Dimension

_RATIO: Final = 1.02
_NANO: Final = 10**9
_QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
NO_SUMS: Final[dict[str, int]] = dict.fromkeys(SUMS, 0)


def usd(nano: int) -> str:
    """Return nano-dollars as an exact decimal text without an exponent or needless zeros."""
    dollars, rest = divmod(abs(nano), _NANO)
    sign = "-" if nano < 0 else ""
    # By hand, since an answer may have a hundred thousand of them: a Decimal takes four times as long.
    return f"{sign}{dollars}.{rest:09d}".rstrip("0") if rest else f"{sign}{dollars}"


def total_tokens(sums: Mapping[str, int]) -> int:
    """Return the sum of the disjoint token buckets (reasoning is a part of output)."""
    return sum(sums[name] for name in TOKEN_SUMS)


def measures(sums: Mapping[str, int]) -> dict[str, Any]:
    """Return the flat measures of the contract, in its order."""
    return {
        "calls": sums["calls"],
        "errors": sums["errors"],
        "input_tokens": sums["input_tokens"],
        "cache_read_tokens": sums["cache_read_tokens"],
        "cache_write_5m_tokens": sums["cache_write_5m_tokens"],
        "cache_write_1h_tokens": sums["cache_write_1h_tokens"],
        "output_tokens": sums["output_tokens"],
        "reasoning_tokens": sums["reasoning_tokens"],
        "total_tokens": total_tokens(sums),
        "web_search_requests": sums["web_search_requests"],
        "cost_usd": usd(sums["cost_nano"]),
        "reported_cost_usd": usd(sums["reported_cost_nano"]),
        "unpriced_calls": sums["unpriced_calls"],
    }


def metric_value(sums: Mapping[str, int], column: str) -> int:
    """Return the number that a breakdown is ordered by."""
    return total_tokens(sums) if column == "total_tokens" else sums[column]


def added(rows: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of all rows together."""
    total = dict(NO_SUMS)
    for row in rows:
        for name in SUMS:
            total[name] += row[name]
    return total


def ratio(part: int, whole: int) -> float:
    """Return a share between 0 and 1; of nothing it is 0."""
    return round(part / whole, 6) if whole else 0.0


def cache_hit_ratio(sums: Mapping[str, int]) -> float:
    """Return cache reads over all input: uncached, read from the cache and written to it."""
    read = sums["cache_read_tokens"]
    written = sums["cache_write_5m_tokens"] + sums["cache_write_1h_tokens"]
    return ratio(read, sums["input_tokens"] + read + written)


def key_of(dimensions: Iterable[Dimension], row: Mapping[str, Any]) -> dict[str, str | int | bool]:
    """Return the key of a grouped row: dimension name to value."""
    return {d.name: d.value(row[f"d{i}"]) for i, d in enumerate(dimensions)}


def quantiles(histogram: Mapping[str, int]) -> dict[str, float | None]:
    """Return the quantiles of a latency histogram in milliseconds, within 1 %; None without a call."""
    counts = sorted((int(bucket), n) for bucket, n in histogram.items() if n > 0)
    total = sum(n for _, n in counts)
    return {name: _at_rank(counts, math.ceil(q * total)) for name, q in _QUANTILES.items()}


def _at_rank(counts: list[tuple[int, int]], rank: int) -> float | None:
    reached = 0
    for bucket, n in counts:
        reached += n
        if reached >= rank:
            return _middle(bucket)
    return None


def _middle(bucket: int) -> float:
    """Return the value from which both ends of a bucket's whole milliseconds are equally far, in ratio."""
    # The bounds are nudged because 1.02 to a power may fall on either side of a whole number.
    low = max(1, math.floor(_RATIO ** (bucket - 1) + 1e-9) + 1) if bucket > 0 else 1
    high = max(low, math.floor(_RATIO**bucket + 1e-9))
    return round(math.sqrt(low * high), 2)
