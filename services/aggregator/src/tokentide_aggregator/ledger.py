"""What a kind of record brings along so that it is counted exactly once: its ledger, its index, its join.

`Processor` runs the steps that are the same for all: claim, filter, memory, token, insert, index, publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from tokentide_aggregator.fold import ConsumedRecord, DeadLetter, Folded, Group, Waiting
from tokentide_aggregator.notice import Notice
from tokentide_common.broker import Record
from tokentide_common.store import Store

E = TypeVar("E")
"""What a record says: a usage event, an activity fact."""
K = TypeVar("K")
"""What is known of a key before the batch."""


class Change(msgspec.Struct, gc=False):
    """What one key contributes to a block."""

    key: bytes
    """The 16-byte hash of what is counted once."""
    index: bytes
    """Its row of the index, whole, in RowBinary; the table keeps the newest by a version inside."""
    row: bytes
    """The +1 row; where the change concerns several rows, they stand one a line."""
    taken_back: bytes | None
    """The -1 rows of what was counted before; they go before the +1 rows."""


class Verdict(NamedTuple):
    """What became of an event whose sender waits."""

    waiting: Waiting
    verdict: str


class Block(NamedTuple):
    """Everything a batch changes."""

    changes: list[Change]
    verdicts: list[Verdict]
    days: set[tuple[str, int]]
    """(org_id, ordinal of the UTC day) whose rankings change."""
    dead: Sequence[DeadLetter] = ()
    """What could be read, but not be joined with what is known."""
    noticed: Notice | None = None
    """What calls that the batch speaks of give occasion to conclude."""
    repeated: Notice | None = None
    """The same of calls to which it adds nothing, and which were not looked up: by what the batch says."""
    follow: Sequence[Record] = ()
    """What goes on the block's own topic because of it."""
    ahead: Sequence[Record] = ()
    """The same, of which a replay could know nothing any more once the block is stored."""


class Ledger(Protocol[E, K]):
    """One kind of record: where it comes from, where it goes, and how it is joined.

    `topic` also keys claims and kept blocks. `build` must be a pure function of the records and of what
    `known` returns: a replay over the same index gives the same bytes.
    """

    topic: str
    table: str
    """The signed table that every rollup hangs on."""
    index: str
    """The table of counted keys, written after the ledger; its column `call_hash` is the 16-byte hash."""

    def fold(self, records: Sequence[ConsumedRecord]) -> Folded[E]:
        """Group what the records say by key; unreadable ones become dead letters. Runs in a thread."""

    async def known(self, store: Store, asked: Mapping[bytes, Group[E]]) -> dict[bytes, K]:
        """Return what the store knows of those asked keys that are counted, by what the index says."""

    def keep(self, change: Change) -> bytes:
        """Return what memory keeps of a key after a change: enough to spare the look-up."""

    def recall(self, kept: bytes, asked: Group[E]) -> K:
        """Return what was known of a key when memory kept it; equal to what `known` would return."""

    def build(self, groups: Mapping[bytes, Group[E]], known: Mapping[bytes, K]) -> Block:
        """Join the groups with what is known. Runs in a thread."""

    def days(self, changes: Sequence[Change]) -> set[tuple[str, int]]:
        """Return the days to announce for changes of a block that a crash left behind."""
