"""A bounded log in files: events are added at its end and taken from its front. Blocking: for one thread.

What is appended is with the operating system when `append` returns, so it outlives the process, killed or
not. It is not synced: a power cut may cost the last seconds, and what it tears is told by checksums. What was
taken from a file that is not yet finished comes again after a crash: delivery is at least once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from tokentide_common.outbox import Record
from tokentide_proxy.spool_folder import SpoolFolder
from tokentide_proxy.spool_format import Frames, framed, read_frames

SEGMENT_BYTES: Final = 2**20
SUFFIX: Final = ".events"
# Windows would write the ends of lines its own way.
_APPENDING: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
Problem = Literal["", "spool_full", "disk_error"]


class Appended(msgspec.Struct, frozen=True):
    """How many records were kept, from the first on, and why not all."""

    kept: int
    problem: Problem = ""
    errno: int | None = None


class _Segment:
    """A file; bytes behind `size` are what is left of a write that failed."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.taken = path, size, 0


class SegmentLog:
    """The files of one process. `damaged` hears how many bytes had to be skipped."""

    def __init__(self, folder: Path, max_bytes: int, damaged: Callable[[int], None]) -> None:
        self._folder = SpoolFolder(folder, SUFFIX)
        self._max_bytes = max_bytes
        self._damaged = damaged
        self._segments: deque[_Segment] = deque()
        self._file: int | None = None  # the last segment, when it is one of this process
        self._last_stamp = 0
        self._read: Frames | None = None
        self.held_bytes = 0
        """What the files take."""
        self.waiting_bytes = 0
        """What of that is still to be taken."""

    def open(self) -> None:
        """Take over what earlier processes left. Raises `OSError`; does nothing when it is open."""
        if self._folder.own is not None:
            return
        for path in self._folder.open():
            size = path.stat().st_size
            if not size:
                path.unlink()
                continue
            self._segments.append(_Segment(path, size))
            self.held_bytes += size
            self.waiting_bytes += size

    def append(self, records: Sequence[Record]) -> Appended:
        """Put records at the end, as many as there is room for."""
        frames = [framed(record) for record in records]
        kept = 0
        try:
            self.open()
            while kept < len(frames):
                segment = self._last_segment()
                fitting = _fitting(frames[kept:], SEGMENT_BYTES - segment.size)
                if not fitting and not segment.size:
                    fitting = frames[kept : kept + 1]  # larger than a file should be: one of its own
                if not fitting:
                    self._finish_segment()
                    continue
                allowed = _fitting(fitting, self._max_bytes - self.held_bytes)
                if not allowed:
                    return Appended(kept, "spool_full")
                self._write(segment, b"".join(allowed))
                kept += len(allowed)
        except OSError as error:
            return Appended(kept, "disk_error", error.errno)
        return Appended(kept)

    def read(self, limit: int) -> list[Record]:
        """Return the oldest records; the same ones again until they are removed. Raises `OSError`."""
        while self._segments and self.waiting_bytes:
            segment = self._segments[0]
            self._read = read_frames(_rest_of(segment), limit)
            if self._read.records:
                return self._read.records
            self.remove()  # nothing but damage
        return []

    def remove(self) -> None:
        """Forget what was read last. Raises `OSError`."""
        if self._read is None or not self._segments:
            return
        segment, read, self._read = self._segments[0], self._read, None
        # Nothing read where something was: the file is gone, or shorter than it was.
        end = segment.taken + read.end if read.end else segment.size
        if damaged := read.damaged_bytes or end - segment.taken - read.end:
            self._damaged(damaged)
        self.waiting_bytes -= end - segment.taken
        segment.taken = end
        if segment.taken >= segment.size:
            self._drop_first_segment()

    def close(self) -> None:
        """Let go of the files; what waits stays in them for the next process."""
        self._finish_segment()
        self._folder.close()
        self._segments.clear()
        self.held_bytes = self.waiting_bytes = 0

    def _drop_first_segment(self) -> None:
        segment = self._segments[0]
        if len(self._segments) == 1 and self._file is not None:
            # Emptied instead of deleted: it is about to be written to again.
            os.ftruncate(self._file, 0)
            self.held_bytes -= segment.size
            segment.size = segment.taken = 0
            return
        self._segments.popleft()
        self.held_bytes -= segment.size
        segment.path.unlink(missing_ok=True)

    def _last_segment(self) -> _Segment:
        if self._file is None or not self._segments[-1].path.exists():
            # Never behind what another process wrote: its last write may be torn.
            self._finish_segment()
            self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
            path = self._folder.new_file(self._last_stamp)
            self._file = os.open(path, _APPENDING, 0o600)
            self._segments.append(_Segment(path, 0))
        return self._segments[-1]

    def _finish_segment(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        os.close(file)
        if self._segments and not self._segments[-1].size:
            self._segments.pop().path.unlink(missing_ok=True)

    def _write(self, segment: _Segment, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # A half-written frame must not stand before the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, segment.size)
            self._finish_segment()
            raise
        segment.size += len(data)
        self.held_bytes += len(data)
        self.waiting_bytes += len(data)


def _rest_of(segment: _Segment) -> bytes:
    try:
        with segment.path.open("rb") as file:
            file.seek(segment.taken)
            return file.read(segment.size - segment.taken)
    except FileNotFoundError:
        return b""


def _fitting(frames: Sequence[bytes], room: int) -> Sequence[bytes]:
    """Return the frames, from the first on, that fit into `room`."""
    for count, frame in enumerate(frames):
        room -= len(frame)
        if room < 0:
            return frames[:count]
    return frames
