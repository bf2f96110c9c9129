"""From log files to batches: what is new in each file, one event a call, and the marks behind it.

Beside the calls go the running totals that the client itself wrote, the highest of each session.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from tokentide.claude_code import UNREADABLE, LogPlace, read_call, read_opening
from tokentide.cost_state import TotalsPlace, highest, key_of, may_state_totals, read_totals
from tokentide.log_lines import Line, complete_lines
from tokentide.projects import local_project
from tokentide.push_state import Mark, PushState, digest, identity_of, print_of, still_there
from tokentide.replays import Replays
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.merge import join
from tokentide_common.session_totals import SessionTotals, encode_totals

MAX_EVENTS: Final = 1000
# The server takes 10 MiB; the envelope and the last event must fit on top.
MAX_BYTES: Final = 9 << 20


class Counts(msgspec.Struct):
    """What was read so far."""

    files: int = 0
    files_read: int = 0
    unreadable_files: int = 0
    bytes: int = 0
    lines: int = 0
    unreadable_lines: int = 0
    replayed_lines: int = 0
    events: int = 0
    totals: int = 0


class Batch(msgspec.Struct, frozen=True):
    """What to send, and how far each file has been read once it is accepted."""

    events: list[UsageEvent]
    totals: list[SessionTotals]
    marks: dict[str, Mark]


class Taken(msgspec.Struct, frozen=True):
    """What one line says, and the mark after it."""

    mark: Mark
    event: UsageEvent | None = None
    totals: SessionTotals | None = None


class Collector:
    """Reads what is new and cuts it into batches, in bounded memory.

    A batch is cut only between lines and takes everything collected so far, so that its marks never
    stand behind an event that is in a later batch.
    """

    def __init__(self, state: PushState, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.counts = Counts()
        self._state = state
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._replays = Replays()
        self._events: dict[str, UsageEvent] = {}
        self._totals: dict[tuple[str, datetime | None], SessionTotals] = {}
        self._bytes = 0
        self._marks: dict[str, Mark] = {}

    def batches(self, paths: Iterable[Path]) -> Iterator[Batch]:
        """Yield batches of everything that is new; the last one may have marks only."""
        for path in paths:
            self.counts.files += 1
            try:
                with path.open("rb", buffering=0) as stream:
                    yield from self._read(path, stream)
            except FileNotFoundError:
                continue  # cleaned up by Claude Code since it was listed
            except OSError:
                self.counts.unreadable_files += 1
        if self._marks:
            yield self._cut()

    def _read(self, path: Path, stream: BinaryIO) -> Iterator[Batch]:
        identity, mark = self._resume(path, stream)
        start = mark.offset
        if start and self._state.mark(identity) != mark:
            self._marks[identity] = mark  # renamed since: the mark follows the file
        for line in complete_lines(stream, start):
            taken = self._take(path, mark, line)
            # Lines of one call follow each other: cut before the next call, not inside this one.
            if self._is_full_for(taken):
                yield self._cut()
            self._add(taken)
            mark = self._marks[identity] = taken.mark
        self.counts.files_read += mark.offset > start
        self.counts.bytes += mark.offset - start

    def _resume(self, path: Path, stream: BinaryIO) -> tuple[str, Mark]:
        identity = identity_of(os.fstat(stream.fileno()))
        mark = self._state.mark(identity)
        if mark is None or not still_there(stream, mark):
            return identity, Mark(str(path))
        return identity, msgspec.structs.replace(mark, path=str(path))

    def _take(self, path: Path, mark: Mark, line: Line) -> Taken:
        """Return what is in a line."""
        self.counts.lines += 1
        seen = print_of(line.end, line.content)
        if line.content is None:
            self.counts.unreadable_lines += 1
            return Taken(msgspec.structs.replace(mark, offset=line.end, last=seen))
        if not mark.opened:
            mark = _open(mark, line.content)
        read: dict[str, Any] = {"offset": line.end, "first": mark.first or seen, "last": seen}
        event, totals = None, None
        try:
            event = read_call(line.content, _place(mark))
            if event is None and may_state_totals(line.content):
                totals = read_totals(line.content, _totals_place(mark))
        except UNREADABLE:
            self.counts.unreadable_lines += 1
        if event is not None and self._replays.is_replay(event, path):
            self.counts.replayed_lines += 1
            event = None
        if event is not None:
            read["first_session"] = mark.first_session or event.session_id
            read["last_call_at"] = event.occurred_at.isoformat()
        if totals is not None:
            read["totals"] = digest(encode_totals(totals))
            # The file repeats them at each end of a process, also of one that made no call.
            totals = totals if read["totals"] != mark.totals else None
        return Taken(msgspec.structs.replace(mark, **read), event, totals)

    def _is_full_for(self, taken: Taken) -> bool:
        event, totals = taken.event, taken.totals
        most = max(len(self._events), len(self._totals))
        if most < self._max_events and self._bytes < self._max_bytes:
            return False
        is_new_call = event is not None and event.call_id not in self._events
        return is_new_call or (totals is not None and key_of(totals) not in self._totals)

    def _add(self, taken: Taken) -> None:
        event, totals = taken.event, taken.totals
        if event is not None:
            known = self._events.get(event.call_id)
            self._events[event.call_id] = event if known is None else join(known, event)
            self._bytes += len(encode_event(event))
        if totals is not None:
            key = key_of(totals)
            self._totals[key] = highest(self._totals.get(key), totals)
            self._bytes += len(encode_totals(totals))

    def _cut(self) -> Batch:
        batch = Batch(list(self._events.values()), list(self._totals.values()), self._marks)
        self.counts.events += len(batch.events)
        self.counts.totals += len(batch.totals)
        self._events, self._totals, self._marks, self._bytes = {}, {}, {}, 0
        return batch


def _open(mark: Mark, content: bytes) -> Mark:
    """Learn from a file's first lines when it began and where it was at work.

    The first line with a time, not the earliest time: a forked session begins with its own lines and then
    copies its parent's, which keep their older times.
    """
    started_at, cwd = read_opening(content)
    began = mark.started_at or (started_at.isoformat() if started_at else "")
    project = mark.project or local_project(cwd)
    return msgspec.structs.replace(mark, started_at=began, project=project, opened=bool(began and project))


def _place(mark: Mark) -> LogPlace:
    return LogPlace(datetime.fromisoformat(mark.started_at) if mark.started_at else None, mark.project)


def _totals_place(mark: Mark) -> TotalsPlace:
    return TotalsPlace(mark.last_call_at or mark.started_at, mark.first_session, mark.project)
