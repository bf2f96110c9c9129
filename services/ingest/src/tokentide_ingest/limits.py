"""What bounds the service as a whole: bytes in work."""

from __future__ import annotations

from tokentide_common.errors import Unavailable


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
