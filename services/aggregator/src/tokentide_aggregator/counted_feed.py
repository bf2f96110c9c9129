"""Tells live views of what was counted: the rows of a block, as they are, on a topic of their own.

Told between the insert and the index, so at least once: whoever repeats the block repeats these records under
the same keys, by which readers know them again. A large block is a backlog that nobody watches call by call:
of it only is told that it was, by an empty record, and so of a call that is too large for a record. Readers
then ask anew for what they show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tokentide_aggregator.ledger import Change
from tokentide_common.broker import Publisher, Record
from tokentide_common.retry import until_available
from tokentide_common.topics import COUNTED

_MOST_CHANGES: Final = 2000
# A record may have a megabyte; rows are far smaller.
_RECORD_BYTES: Final = 500_000


class CountedFeed:
    """Publishes to `tokentide.counted`."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def tell(self, token: str, changes: Sequence[Change]) -> None:
        """Return once the broker has what the store took of a block."""
        records = counted_records(token, changes)
        if records:
            await until_available("publish", lambda: self._publisher.publish(COUNTED, records))


def counted_records(token: str, changes: Sequence[Change]) -> list[Record]:
    """Return the rows of a block, one a line, in records keyed by its token; of a large one an empty one."""
    if len(changes) > _MOST_CHANGES:
        return [Record(f"{token}#0".encode(), b"")]
    return [Record(f"{token}#{number}".encode(), part) for number, part in enumerate(_parts(changes))]


def _parts(changes: Sequence[Change]) -> Iterator[bytes]:
    rows: list[bytes] = []
    size = 0
    for change in changes:
        # What a call was and what it is now stay together: half of it would be a wrong sum.
        both = [row for row in (change.taken_back, change.row) if row]
        added = sum(map(len, both)) + len(both)
        if rows and size + added > _RECORD_BYTES:
            yield b"\n".join(rows)
            rows, size = [], 0
        if added > _RECORD_BYTES:  # more than the broker may take, and the block must not wait for ever
            yield b""
            continue
        rows += both
        size += added
    if rows:
        yield b"\n".join(rows)
