"""From log files to batches: what is new in each file, one event a call, and the marks behind it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from tokentide.claude_code import UNREADABLE, LogPlace, read_call, read_opening
from tokentide.log_lines import Line, complete_lines
from tokentide.projects import local_project
from tokentide.push_state import Mark, PushState, identity_of, print_of, still_there
from tokentide.replays import Replays
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.merge import join

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


class Batch(msgspec.Struct, frozen=True):
    """Events to send, and how far each file has been read once they are accepted."""

    events: list[UsageEvent]
    marks: dict[str, Mark]


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
        if self._events or self._marks:
            yield self._cut()

    def _read(self, path: Path, stream: BinaryIO) -> Iterator[Batch]:
        identity, mark = self._resume(path, stream)
        start = mark.offset
        if start and self._state.mark(identity) != mark:
            self._marks[identity] = mark  # renamed since: the mark follows the file
        for line in complete_lines(stream, start):
            mark, event = self._take(path, mark, line)
            if event is not None:
                # Lines of one call follow each other: cut before the next call, not inside this one.
                if self._is_full_for(event):
                    yield self._cut()
                self._add(event)
            self._marks[identity] = mark
        self.counts.files_read += mark.offset > start
        self.counts.bytes += mark.offset - start

    def _resume(self, path: Path, stream: BinaryIO) -> tuple[str, Mark]:
        identity = identity_of(os.fstat(stream.fileno()))
        mark = self._state.mark(identity)
        if mark is None or not still_there(stream, mark):
            return identity, Mark(str(path))
        return identity, msgspec.structs.replace(mark, path=str(path))

    def _take(self, path: Path, mark: Mark, line: Line) -> tuple[Mark, UsageEvent | None]:
        """Return the mark after a line, and the event in it if there is one."""
        self.counts.lines += 1
        seen = print_of(line.end, line.content)
        if line.content is None:
            self.counts.unreadable_lines += 1
            return msgspec.structs.replace(mark, offset=line.end, last=seen), None
        if not mark.opened:
            mark = _open(mark, line.content)
        after = msgspec.structs.replace(mark, offset=line.end, first=mark.first or seen, last=seen)
        try:
            event = read_call(line.content, _place(mark))
        except UNREADABLE:
            self.counts.unreadable_lines += 1
            return after, None
        if event is not None and self._replays.is_replay(event, path):
            self.counts.replayed_lines += 1
            return after, None
        return after, event

    def _is_full_for(self, event: UsageEvent) -> bool:
        full = len(self._events) >= self._max_events or self._bytes >= self._max_bytes
        return full and event.call_id not in self._events

    def _add(self, event: UsageEvent) -> None:
        known = self._events.get(event.call_id)
        self._events[event.call_id] = event if known is None else join(known, event)
        self._bytes += len(encode_event(event))

    def _cut(self) -> Batch:
        batch = Batch(list(self._events.values()), self._marks)
        self.counts.events += len(batch.events)
        self._events, self._marks, self._bytes = {}, {}, 0
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
