"""Money without rounding, ratios without division by zero, quantiles within one per cent."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.query_oracle import quantile
from tokentide_query_api.coverage import unlinked
from tokentide_query_api.measures import NO_SUMS, cache_hit_ratio, quantiles, usd


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (13_898_500, "0.0138985"), (1, "0.000000001"), (10**10, "10"), (10**18, "1000000000"),
     (-5 * 10**8, "-0.5"), (1_500_000_000, "1.5")],
)  # fmt: skip
def test_money_is_written_exactly_and_plainly(nano, text):
    assert usd(nano) == text


@given(st.integers(-(2**63), 2**63))
def test_no_amount_is_rounded(nano):
    assert Decimal(usd(nano)) * 10**9 == nano
    assert "E" not in usd(nano)


def test_the_cache_hit_ratio_is_cache_reads_over_all_input():
    sums = {**NO_SUMS, "input_tokens": 10, "cache_read_tokens": 60, "cache_write_5m_tokens": 25,
            "cache_write_1h_tokens": 5, "output_tokens": 999}  # fmt: skip
    assert cache_hit_ratio(sums) == 0.6
    assert cache_hit_ratio(NO_SUMS) == 0.0


@given(st.lists(st.integers(1, 10**7), max_size=200))
def test_quantiles_of_the_histogram_are_within_one_per_cent(values):
    histogram: dict[str, int] = {"-1": 0}
    for value in values:
        bucket = str(math.ceil(math.log(max(value, 1)) / math.log(1.02)))
        histogram[bucket] = histogram.get(bucket, 0) + 1
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = quantile(values, q)
        found = quantiles(histogram)[name]
        assert found is None if exact is None else abs(found - exact) <= 0.01 * exact


def test_calls_are_possible_doubles_only_when_no_source_saw_both():
    assert unlinked([("a", ["cli"]), ("b", ["cli"])]) == []
    assert unlinked([("a", ["cli"]), ("b", ["otlp"])]) == ["a", "b"]
    assert unlinked([("a", ["cli", "otlp"]), ("b", ["otlp"]), ("c", ["proxy"])]) == ["a", "b", "c"]
