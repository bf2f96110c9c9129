"""Exact rates: Decimals per unit while they are put together, integers where calls are multiplied."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import Final, NamedTuple

# A factor on a rate must not lose a digit silently: precision far above any price, and a trap if it does.
_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[Inexact])
_NANO_DIGITS = 9

ALWAYS: Final = -1
"""As "total input above which rates hold": even for a call without input."""


class UnitRates(NamedTuple):
    """USD for one token, one web search and the request itself."""

    input: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    output: Decimal
    reasoning: Decimal
    web_search: Decimal
    request: Decimal

    def times(self, factor: Decimal) -> UnitRates:
        """Scale the token rates; what is charged per search or per request stays as it is."""
        return UnitRates._make([*(_EXACT.multiply(rate, factor) for rate in self[:6]), *self[6:]])


class LinearRates(NamedTuple):
    """Rates as integers of one unit, so fine that each is exact; `nano` such units are one nano-USD.

    Reasoning is a part of output, so it carries only what it costs more (or less) than output.
    """

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning_extra: int
    web_search: int
    request: int
    nano: int

    @classmethod
    def exactly(cls, usd: UnitRates) -> LinearRates:
        """Choose the unit by the finest digit of any rate: integer arithmetic then rounds nothing."""
        digits = max(_NANO_DIGITS, *(_fraction_digits(rate) for rate in usd))
        units = [int(_EXACT.scaleb(rate, digits)) for rate in usd]
        units[5] -= units[4]
        return cls._make([*units, 10 ** (digits - _NANO_DIGITS)])


class TieredRates(NamedTuple):
    """Rates by size of the prompt: a cliff, the whole call is charged at the rate of its tier.

    `starts[i]` is the total input above which (not at which) `tiers[i + 1]` holds.
    """

    starts: tuple[int, ...]
    tiers: tuple[LinearRates, ...]
    flat: LinearRates | None
    """The only tier, where there is one: most models, and no need to add up the prompt."""

    @classmethod
    def from_usd(cls, steps: Sequence[tuple[int, UnitRates]]) -> TieredRates:
        """Build from `(total input above which it holds, rates)`, ascending, the first from `ALWAYS`."""
        tiers = tuple(LinearRates.exactly(usd) for _, usd in steps)
        return cls(tuple(above for above, _ in steps[1:]), tiers, tiers[0] if len(tiers) == 1 else None)

    def tier(self, total_input: int) -> LinearRates:
        """Return the rates for a prompt of this many tokens, cached ones included."""
        return self.tiers[bisect_left(self.starts, total_input)]


def _fraction_digits(rate: Decimal) -> int:
    exponent = rate.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
