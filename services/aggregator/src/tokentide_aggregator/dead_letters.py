"""Dead letters: what could not be read, and the brake that keeps a bad deploy from emptying a topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tokentide_aggregator.fold import DeadLetter
from tokentide_common.broker import Record


def dead_letter_records(topic: str, partition: int, dead: Sequence[DeadLetter]) -> list[Record]:
    """Return the records for the dead-letter topic: why, where and a hash, never the content."""
    return [
        Record(
            key=f"{topic}:{partition}".encode(),
            value=b"",
            headers=[
                ("reason", letter.reason.encode()),
                ("source-topic", topic.encode()),
                ("source-partition", str(partition).encode()),
                ("source-offset", str(letter.offset).encode()),
                ("sha256", letter.digest.encode()),
            ],
        )
        for letter in dead
    ]


class Brake:
    """Stops a partition in which too many records are bad.

    Poison is rare; when more than `max_ratio` of the last batches' records is bad (looking back over at
    least `window` records), the sender or this service is broken and somebody must look.
    """

    def __init__(self, max_ratio: float, window: int) -> None:
        self._max_ratio = max_ratio
        self._window = window
        self._batches: deque[tuple[int, int]] = deque()

    def trips(self, records: int, bad: int) -> bool:
        """Take note of one batch and tell whether the partition must stop before it is done."""
        self._batches.append((records, bad))
        while sum(n for n, _ in self._batches) - self._batches[0][0] >= self._window:
            self._batches.popleft()
        seen = sum(n for n, _ in self._batches)
        return seen >= self._window and sum(b for _, b in self._batches) > self._max_ratio * seen
