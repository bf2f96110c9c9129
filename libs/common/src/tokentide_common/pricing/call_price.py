"""The one place where a call gets its cost."""

from __future__ import annotations

from collections.abc import Callable

from tokentide_common.events import UsageEvent
from tokentide_common.pricing.prices import Prices

Price = Callable[[UsageEvent], int | None]
"""Cost of a merged record in nano-dollars; None: no price is known."""


def price_of(prices: Prices) -> Price:
    """Return the function from a merged record to nano-dollars, None where no price is known.

    A call that used nothing (a failed one) costs nothing, whatever its model: also where a price list has a
    price for each request, as nobody is billed for one that was refused.
    """
    price = prices.price

    def cost_nano(e: UsageEvent) -> int | None:
        if e.status == "error" and not _used(e):
            return 0
        cost = price(
            e.provider,
            e.model,
            e.occurred_at,
            e.input_tokens,
            e.cache_read_tokens,
            e.cache_write_5m_tokens,
            e.cache_write_1h_tokens,
            e.output_tokens,
            e.reasoning_tokens,
            e.web_search_requests,
            e.service_tier,
            e.speed,
            e.inference_geo,
        )
        return 0 if cost is None and not _used(e) else cost

    return cost_nano


def _used(e: UsageEvent) -> int:
    return e.input_tokens or e.output_tokens or e.cache_read_tokens or e.cache_write_tokens
