"""How fast each caller may ask: a token bucket per caller, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from tokentide_common.errors import RateLimited

_MOST: Final = 100_000


class TokenBuckets:
    """A bucket per caller: `burst` requests at once, `per_s` a second on average.

    Of `most` callers; beyond them the one who asked longest ago is forgotten, so that a flood from invented
    callers takes bounded memory. Who is forgotten begins with a full bucket.
    """

    def __init__(
        self, per_s: float, burst: int, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._most = most
        self._clock = clock
        # By when each was asked last, the longest ago first.
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, caller: str) -> None:
        """Take one request from a caller's bucket; raises `RateLimited` when it is empty."""
        now = self._clock()
        left, seen_at = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - seen_at) * self._per_s)
        admitted = left >= 1
        self._buckets[caller] = (left - 1 if admitted else left, now)
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        if not admitted:
            raise too_fast((1 - left) / self._per_s)


def too_fast(wait_s: float) -> RateLimited:
    """Return the refusal of a request that may come again in so many seconds."""
    return RateLimited("too many requests: slow down", retry_after_s=max(1, math.ceil(wait_s)))
