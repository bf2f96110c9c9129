"""The calls written last, kept in memory: most repeats of a call come soon after the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokentide_aggregator.ledger import Change


class RecentRows:
    """What was written last of one partition's calls, at most `limit_bytes` of it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._rows: dict[bytes, bytes] = {}

    def get(self, call: bytes) -> bytes | None:
        """Return what was kept of a call at its last change, if it is remembered."""
        return self._rows.get(call)

    def remember(self, changes: Sequence[Change], keep: Callable[[Change], bytes]) -> None:
        """Keep changes that the store has acknowledged, the index included; the oldest fall out."""
        room = self._limit
        newest = []
        for change in reversed(changes):
            self._drop(change.key)  # what it was before must never be answered again
            if room > 0:
                kept = keep(change)
                room -= len(kept)
                newest.append((change.key, kept))
        if room < 0:
            newest.pop()
        for key, kept in reversed(newest):
            self._rows[key] = kept
            self._size += len(kept)
        self._shrink()

    def forget(self, changes: Sequence[Change]) -> None:
        """Drop calls whose newest state is known to the store alone."""
        for change in changes:
            self._drop(change.key)

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
