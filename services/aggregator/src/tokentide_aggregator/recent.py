"""The rows written last, kept in memory: most repeats of a call come soon after the first."""

from __future__ import annotations

from collections.abc import Sequence

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

    def remember(self, changes: Sequence[CallChange]) -> None:
        """Keep rows that the store has acknowledged, `seen` included; the oldest fall out."""
        room = self._limit
        newest = []
        for change in reversed(changes):
            if change.taken_back is not None:
                self._drop(change.call)  # what it was before must never be answered again
            room -= len(change.row)
            if room >= 0:
                newest.append(change)
        for change in reversed(newest):
            self._rows[change.call] = change.row
            self._size += len(change.row)
        self._shrink()

    def forget(self, changes: Sequence[CallChange]) -> None:
        """Drop calls whose newest row is known to the store alone."""
        for change in changes:
            self._drop(change.call)

    def _shrink(self) -> None:
        # One pass from the oldest: asking a dict for its first key again and again gets slow with its size.
        oldest = []
        for call, row in self._rows.items():
            if self._size <= self._limit:
                break
            oldest.append(call)
            self._size -= len(row)
        for call in oldest:
            del self._rows[call]

    def _drop(self, call: bytes) -> None:
        row = self._rows.pop(call, None)
        if row is not None:
            self._size -= len(row)
