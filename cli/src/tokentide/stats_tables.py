"""Measures of the query API as tables. Pure: answers in, rich tables out."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

Measures = dict[str, Any]

_COUNTS: Final = (
    ("calls", "calls"),
    ("input", "input_tokens"),
    ("cache read", "cache_read_tokens"),
    ("write 5m", "cache_write_5m_tokens"),
    ("write 1h", "cache_write_1h_tokens"),
    ("output", "output_tokens"),
)
_UNKNOWN: Final = "(unknown)"


def measures_table(title: str, heading: str, rows: Iterable[tuple[str, Measures]]) -> Table:
    """Return a table with one row for each key: calls, token buckets, cache hit rate and cost."""
    table = Table(title=title, title_justify="left")
    table.add_column(heading, overflow="fold")
    for name, _ in _COUNTS:
        # On a narrow terminal a number goes on below, and the cost is never cut: an ellipsis would be a lie.
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("cache hits", justify="right", overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    for key, measures in rows:
        counts = (f"{measures.get(field, 0):,}" for _, field in _COUNTS)
        table.add_row(escape(key or _UNKNOWN), *counts, hit_rate(measures), cost(measures))
    return table


def breakdown_rows(answer: Measures) -> list[tuple[str, Measures]]:
    """Return the rows of a breakdown, and what is beyond its limit as one more."""
    rows = [(_key(row.get("key")), row) for row in answer.get("rows", [])]
    other = answer.get("other")
    return [*rows, ("(other)", other)] if other and other.get("calls") else rows


def day_rows(answer: Measures) -> list[tuple[str, Measures]]:
    """Return the days of a timeseries that have calls."""
    points = [point for series in answer.get("series", []) for point in series.get("points", [])]
    return [(str(point["start"])[:10], point) for point in points if point.get("calls")]


def hit_rate(measures: Measures) -> str:
    """Return the part of all input that came from the cache."""
    read = measures.get("cache_read_tokens", 0)
    written = measures.get("cache_write_5m_tokens", 0) + measures.get("cache_write_1h_tokens", 0)
    everything = measures.get("input_tokens", 0) + read + written
    return f"{100 * read / everything:.1f} %" if everything else "–"


def cost(measures: Measures) -> str:
    """Return the cost to the cent, or to the first digits that say anything; unpriced calls are marked."""
    exact = Decimal(measures.get("cost_usd") or 0)
    places = 2 if exact == 0 or exact >= 1 else 4
    mark = " *" if measures.get("unpriced_calls") else ""
    return f"${exact:,.{places}f}{mark}"


def _key(key: object) -> str:
    return " / ".join(str(value) for value in key.values()) if isinstance(key, dict) else str(key or "")
