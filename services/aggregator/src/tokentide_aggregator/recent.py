"""The rows written last, kept in memory: most repeats of a call come soon after the first."""

from __future__ import annotations

from collections.abc import Iterable

from tokentide_aggregator.block import CallChange


class RecentRows:
    """The newest rows of one partition's calls, at most `limit_bytes` of them."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._rows: dict[bytes, bytes] = {}

    def get(self, call: bytes) -> bytes | None:
        """Return the current +1 row of a call, if it is remembered."""
        return self._rows.get(call)

    def remember(self, changes: Iterable[CallChange]) -> None:
        """Keep rows that the store has acknowledged, `seen` included; the oldest fall out."""
        for change in changes:
            self._drop(change.call)
            self._rows[change.call] = change.row
            self._size += len(change.row)
        while self._size > self._limit:
            self._drop(next(iter(self._rows)))

    def _drop(self, call: bytes) -> None:
        row = self._rows.pop(call, None)
        if row is not None:
            self._size -= len(row)
