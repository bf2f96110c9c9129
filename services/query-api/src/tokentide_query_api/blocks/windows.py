"""The 5-hour blocks of one account, by the documented algorithm. Pure.

A block begins at the full UTC hour of its first call and lasts five hours. A call belongs to the next block
when it comes later than five hours after the start, or later than five hours after the call before. It is an
estimate: a provider's own window may begin up to an hour apart, so a window that the provider has told is
taken as it is (`pinned`), and the calls before and after it make blocks among themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
WINDOW_MS: Final = 5 * HOUR_MS
WEEK_MS: Final = 7 * 24 * HOUR_MS
_FIRST_MS: Final = attrgetter("first_ms")


class Sums(msgspec.Struct, frozen=True):
    """What calls used."""

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_nano: int

    @property
    def total_tokens(self) -> int:
        """All tokens, cached ones included."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.output_tokens


SUMMED: Final = Sums.__struct_fields__


class Entry(msgspec.Struct, frozen=True, gc=False):  # there are many, of texts and numbers alone
    """Calls of one account, machine and model that were made within one minute."""

    first_ms: int
    last_ms: int
    machine_id: str
    model: str
    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_nano: int


def sums_of(found: Sequence[Entry | Sums]) -> Sums:
    """Return what entries used, or what sums come to."""
    return Sums(*(sum(map(attrgetter(name), found)) for name in SUMMED))


class Block(msgspec.Struct, frozen=True, dict=True):  # a dict: what follows from its entries is kept
    """A window and the calls in it; of a gap there are none."""

    start_ms: int
    end_ms: int
    entries: tuple[Entry, ...]
    pinned: bool = False
    """The provider has told when it ends."""

    @property
    def is_gap(self) -> bool:
        """Whether it is the time in which no window was open."""
        return not self.entries and not self.pinned

    @cached_property
    def first_ms(self) -> int:
        """When its first call was made; of none, its start."""
        return min(map(_FIRST_MS, self.entries), default=self.start_ms)

    @cached_property
    def last_ms(self) -> int:
        """When its last call was made; of none, its start."""
        return max(map(attrgetter("last_ms"), self.entries), default=self.start_ms)

    @cached_property
    def machines(self) -> Mapping[str, Sequence[Entry]]:
        """Its entries by machine."""
        return by_machine(self.entries)

    @cached_property
    def machine_sums(self) -> Mapping[str, Sums]:
        """What each machine used, by its id in order."""
        return {machine: sums_of(own) for machine, own in sorted(self.machines.items())}

    @cached_property
    def sums(self) -> Sums:
        """What was used in it."""
        return sums_of(list(self.machine_sums.values()))

    def is_active(self, now_ms: int) -> bool:
        """Tell whether calls made now would belong to it."""
        if self.pinned:
            return self.start_ms <= now_ms < self.end_ms
        return bool(self.entries) and now_ms - self.last_ms < WINDOW_MS and now_ms < self.end_ms


def blocks_of(entries: Iterable[Entry], resets_ms: Sequence[int] = ()) -> list[Block]:
    """Return the blocks of an account in order, with the gaps between them.

    `resets_ms`: when windows end that the provider has told, the newest word first: of two windows that
    cannot both have been, the one that was told first here counts.
    """
    # By that alone: no block begins between two of the same moment, whichever comes first.
    ordered = sorted(entries, key=_FIRST_MS)
    found: list[Block] = []
    rest, told_to_ms = ordered, 0
    for reset_ms in _apart(resets_ms):
        start_ms = reset_ms - WINDOW_MS
        before = [entry for entry in rest if entry.first_ms < start_ms]
        inside = [entry for entry in rest if start_ms <= entry.first_ms < reset_ms]
        rest = [entry for entry in rest if entry.first_ms >= reset_ms]
        found += _estimated(before, told_to_ms, start_ms)
        found.append(Block(start_ms, reset_ms, tuple(inside), pinned=True))
        told_to_ms = reset_ms
    return _with_gaps([*found, *_estimated(rest, told_to_ms)])


def _apart(resets_ms: Iterable[int]) -> list[int]:
    """Return the ends of windows that lie apart, in order."""
    found: list[int] = []
    for reset_ms in resets_ms:
        if all(abs(reset_ms - other) >= WINDOW_MS for other in found):
            found.append(reset_ms)
    return sorted(found)


def _estimated(entries: Sequence[Entry], from_ms: int = 0, ends_by_ms: int | None = None) -> list[Block]:
    """Return the blocks of calls between two windows that were told, into which none reaches."""
    blocks: list[Block] = []
    current: list[Entry] = []
    start_ms = last_ms = 0
    for entry in entries:
        if current and (entry.first_ms - start_ms > WINDOW_MS or entry.first_ms - last_ms > WINDOW_MS):
            from_ms = start_ms + WINDOW_MS  # where the next may begin: after a told window no hour is full
            blocks.append(Block(start_ms, from_ms, tuple(current)))
            current = []
        if not current:
            start_ms = max(from_ms, entry.first_ms // HOUR_MS * HOUR_MS)
        current.append(entry)
        last_ms = max(last_ms, entry.last_ms)
    if current:
        end_ms = start_ms + WINDOW_MS
        blocks.append(
            Block(start_ms, end_ms if ends_by_ms is None else min(end_ms, ends_by_ms), tuple(current))
        )
    return blocks


def _with_gaps(blocks: Sequence[Block]) -> list[Block]:
    """Put a gap between two blocks whose calls are more than a window apart: from a window after the last.

    After a window that was told it lasts from that one's end to the start of the next.
    """
    found: list[Block] = []
    for block in blocks:
        before = found[-1] if found else block
        if before.pinned and before.end_ms < block.start_ms:
            found.append(Block(before.end_ms, block.start_ms, ()))
        elif not before.pinned and not block.pinned and block.first_ms - before.last_ms > WINDOW_MS:
            found.append(Block(before.last_ms + WINDOW_MS, block.first_ms, ()))
        found.append(block)
    return found


def by_machine(entries: Iterable[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Return entries by machine."""
    machines: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        machines[entry.machine_id].append(entry)
    return machines


def overlap_minutes(machines: Mapping[str, Sequence[Entry]]) -> int:
    """Return in how many minutes more than one machine made calls."""
    if len(machines) < 2:
        return 0
    seen: set[int] = set()
    at_once: set[int] = set()
    for entries in machines.values():
        minutes = {entry.first_ms // 60_000 for entry in entries}
        at_once |= seen & minutes
        seen |= minutes
    return len(at_once)
