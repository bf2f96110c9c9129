"""How fast a window is used, and what it will hold at its end if that goes on. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from tokentide_query_api.blocks.windows import Block

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000


class Burn(msgspec.Struct, frozen=True):
    """What is used in a minute and spent in an hour, from the first call of a block to its last."""

    tokens_per_minute: float
    fresh_tokens_per_minute: float
    """Uncached input and output alone: cache reads would hide how busy it is."""
    cost_usd_per_hour: float


class Projection(msgspec.Struct, frozen=True):
    """What a block will hold at its end, if it is used on as it was."""

    remaining_minutes: int
    total_tokens: int
    cost_usd: float


def burn(block: Block) -> Burn | None:
    """Return how fast a block is used; None where all its calls are of one moment."""
    lasted_ms = block.last_ms - block.first_ms
    if lasted_ms <= 0:
        return None
    minutes = lasted_ms / _MINUTE_MS
    used = block.sums
    fresh = used.input_tokens + used.output_tokens
    cost = used.cost_nano / 1e9
    return Burn(used.total_tokens / minutes, fresh / minutes, cost / lasted_ms * _HOUR_MS)


def projection(block: Block, now_ms: int) -> Projection | None:
    """Return what an active block will hold at its end; None for another, or where no rate is known."""
    rate = burn(block) if block.is_active(now_ms) else None
    if rate is None:
        return None
    remaining = max(0.0, (block.end_ms - now_ms) / _MINUTE_MS)
    cost = block.sums.cost_nano / 1e9
    return Projection(
        remaining_minutes=round(remaining),
        total_tokens=round(block.sums.total_tokens + rate.tokens_per_minute * remaining),
        cost_usd=round(cost + rate.cost_usd_per_hour / 60 * remaining, 9),
    )
