"""The 5-hour blocks of one account, by the documented algorithm. Pure.

A block begins at the full UTC hour of its first call and lasts five hours. A call belongs to the next block
when it comes later than five hours after the start, or later than five hours after the call before. It is an
estimate: a provider's own window may begin up to an hour apart, so a window that the provider has told is
taken as it is (`pinned`), and the calls before and after it make blocks among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
WINDOW_MS: Final = 5 * HOUR_MS
WEEK_MS: Final = 7 * 24 * HOUR_MS
_FIRST_MS: Final = attrgetter("first_ms")


class Sums(msgspec.Struct, frozen=True, gc=False):
    """What calls used."""

    calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    @property
    def total_tokens(self) -> int:
        """All tokens, cached ones included."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens + self.output_tokens


# There are many, of texts and numbers alone. An array: a question's columns, in this order.
class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Calls of one account, machine and model that were made within one UTC hour."""

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
    minutes: int
    """In which minutes of the hour: a bit for each, the lowest for the first."""


def sums_of(found: Iterable[Entry | Sums]) -> Sums:
    """Return what entries used, or what sums come to."""
    calls = fresh = read = written = output = cost = 0
    for each in found:  # once over them: there are many, of few each
        calls += each.calls
        fresh += each.input_tokens
        read += each.cache_read_tokens
        written += each.cache_write_tokens
        output += each.output_tokens
        cost += each.cost_nano
    return Sums(calls, fresh, read, written, output, cost)


class Block(msgspec.Struct, frozen=True):
    """A window and the calls in it; of a gap there are none."""

    start_ms: int
    end_ms: int
    entries: tuple[Entry, ...] = ()
    """In the order of their first calls."""
    pinned: bool = False
    """The provider has told when it ends."""
    machines: Mapping[str, Sequence[Entry]] = {}
    """Its entries by machine, in the order of their ids."""
    machine_sums: Mapping[str, Sums] = {}
    """What each machine used."""
    sums: Sums = Sums()
    """What was used in it."""
    last_ms: int = 0
    """When its last call was made; of none, its start."""

    @property
    def is_gap(self) -> bool:
        """Whether it is the time in which no window was open."""
        return not self.entries and not self.pinned

    @property
    def first_ms(self) -> int:
        """When its first call was made; of none, its start."""
        return self.entries[0].first_ms if self.entries else self.start_ms

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
        found.append(_block(start_ms, reset_ms, inside, pinned=True))
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
            blocks.append(_block(start_ms, from_ms, current))
            current = []
        if not current:
            start_ms = max(from_ms, entry.first_ms // HOUR_MS * HOUR_MS)
        current.append(entry)
        last_ms = max(last_ms, entry.last_ms)
    if current:
        end_ms = start_ms + WINDOW_MS
        blocks.append(_block(start_ms, end_ms if ends_by_ms is None else min(end_ms, ends_by_ms), current))
    return blocks


def _block(start_ms: int, end_ms: int, entries: Sequence[Entry], *, pinned: bool = False) -> Block:
    """Return a window with what its entries, which are in order, come to."""
    machines = by_machine(entries)
    used = {machine: sums_of(own) for machine, own in machines.items()}
    last_ms = max((entry.last_ms for entry in entries), default=start_ms)
    # Most windows have one machine, whose sums are those of all.
    sums = next(iter(used.values())) if len(used) == 1 else sums_of(used.values())
    return Block(start_ms, end_ms, tuple(entries), pinned, machines, used, sums, last_ms)


def _gap(start_ms: int, end_ms: int) -> Block:
    return Block(start_ms, end_ms, last_ms=start_ms)


def _with_gaps(blocks: Sequence[Block]) -> list[Block]:
    """Put a gap between two blocks whose calls are more than a window apart: from a window after the last.

    After a window that was told it lasts from that one's end to the start of the next.
    """
    found: list[Block] = []
    for block in blocks:
        before = found[-1] if found else block
        if before.pinned and before.end_ms < block.start_ms:
            found.append(_gap(before.end_ms, block.start_ms))
        elif not before.pinned and not block.pinned and block.first_ms - before.last_ms > WINDOW_MS:
            found.append(_gap(before.last_ms + WINDOW_MS, block.first_ms))
        found.append(block)
    return found


def by_machine(entries: Iterable[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Return entries by machine, in the order of their ids."""
    machines: dict[str, list[Entry]] = {}
    for entry in entries:
        machines.setdefault(entry.machine_id, []).append(entry)
    return dict(sorted(machines.items())) if len(machines) > 1 else machines


def overlap_minutes(machines: Mapping[str, Sequence[Entry]]) -> int:
    """Return in how many minutes more than one machine made calls."""
    if len(machines) < 2:
        return 0
    seen: dict[int, int] = {}
    at_once: dict[int, int] = {}
    for entries in machines.values():
        own: dict[int, int] = {}
        for entry in entries:
            hour = entry.first_ms // HOUR_MS
            own[hour] = own.get(hour, 0) | entry.minutes
        for hour, minutes in own.items():
            before = seen.get(hour, 0)
            at_once[hour] = at_once.get(hour, 0) | before & minutes
            seen[hour] = before | minutes
    return sum(minutes.bit_count() for minutes in at_once.values())
