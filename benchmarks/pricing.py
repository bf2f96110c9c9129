"""CPU time to price one call, against genai-prices' own `calc_price` in the same run.

python benchmarks/pricing.py
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import median

from genai_prices import Usage, calc_price

import report
from tokentide_common.pricing import Prices

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODELS = {
    "one price ever": ("anthropic", "claude-opus-5-5"),
    "two periods": ("anthropic", "claude-opus-4-6"),
    "two tiers": ("anthropic", "claude-haiku-5-5"),
    "peak hours": ("deepseek", "deepseek-v4-pro"),
}
TOKENS = (29, 10939, 1042, 347, 81, 12, 1)


def microseconds(call: Callable[[], object], number: int) -> float:
    return median(timeit.repeat(call, timer=time.process_time, number=number, repeat=7)) / number * 1e6


def lines() -> Iterator[report.Line]:
    """Measure every kind of price, and a model of no known name."""
    prices = Prices.load()
    fresh, cached, short, long, output, reasoning, searches = TOKENS
    for label, (provider, model) in MODELS.items():

        def ours(provider: str = provider, model: str = model) -> int | None:
            return prices.price(provider, model, NOW, *TOKENS, "standard", "normal", "not_available")

        def theirs(provider: str = provider, model: str = model) -> object:
            usage = Usage(
                input_tokens=fresh + cached + short + long,
                cache_read_tokens=cached,
                cache_write_tokens=short + long,
                cache_write_5m_tokens=short,
                cache_write_1h_tokens=long,
                output_tokens=output,
                output_reasoning_tokens=reasoning,
                web_searches=searches,
            )
            return calc_price(usage, model, provider_id=provider, genai_request_timestamp=NOW).total_price

        fast, slow = microseconds(ours, 50_000), microseconds(theirs, 300)
        note = f"{fast:.2f} µs against {slow:.0f} µs of calc_price"
        yield report.Line(
            "pricing", f"a call, {label}, faster than the price library", slow / fast, note=note
        )
    misses = iter(range(10**9))
    miss = microseconds(lambda: prices.price("", f"claude-opus-4-8-{next(misses)}", NOW, *TOKENS), 300)
    yield report.Line("pricing", "a call of a model name never seen before", miss, unit="µs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report.show(list(lines()), as_json=options.json)


if __name__ == "__main__":
    main()
