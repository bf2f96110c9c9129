"""What bounds the service as a whole: requests per key, bytes in work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tokentide_common.errors import RateLimited, Unavailable


class RateLimit:
    """A token bucket per key: `burst` requests at once, `per_s` a second on average, in this process."""

    def __init__(self, per_s: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        # Grows with the keys that exist: only requests of known keys get here.
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, key_id: str) -> None:
        """Take one request from the key's bucket; raises `RateLimited` when it is empty."""
        now = self._clock()
        left, seen_at = self._buckets.get(key_id, (self._burst, now))
        left = min(self._burst, left + (now - seen_at) * self._per_s)
        if left < 1:
            raise RateLimited(
                "too many requests with this key", retry_after_s=math.ceil((1 - left) / self._per_s)
            )
        self._buckets[key_id] = (left - 1, now)


class ByteBudget:
    """The bytes that all requests together may hold: memory stays bounded whatever the broker does."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def share(self) -> ByteShare:
        """Return one request's share, empty so far; leave it with `with`."""
        return ByteShare(self)

    def take(self, count: int) -> None:
        """Take bytes; raises `Unavailable` when the budget is spent."""
        if self.held + count > self._limit:
            raise Unavailable("too much is in work already", code="overloaded")
        self.held += count

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self.held -= count


class ByteShare:
    """What one request holds; given back when its block is left."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0

    def grow(self, count: int) -> None:
        """Take more bytes; raises `Unavailable` when the budget is spent."""
        self._budget.take(count)
        self._held += count

    def __enter__(self) -> ByteShare:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._budget.give_back(self._held)
        self._held = 0
