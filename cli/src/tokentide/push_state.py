"""How far each log file has been sent: what a push remembers, and how it knows a file again.

A mark belongs to a file (device and inode), not to a path. It holds the offset after the last line whose
events were accepted, and a print of the first line and of that last line: where one of them is not found
again, the file was truncated, replaced or rewritten, and is read from the start. Reading too much is
harmless, since the server knows every call by its identity; a line skipped would be lost. Every doubt
therefore ends in reading again.
"""

from __future__ import annotations

import hashlib
import os
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from tokentide.files import replace_file

SAVE_EVERY_S: Final = 1.0
_PRINT_BYTES: Final = 4096
_VERSION: Final = 1


class Print(msgspec.Struct, frozen=True):
    """A line's fingerprint: the digest of up to 4096 bytes of it that end at `end`."""

    end: int
    length: int
    digest: str


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one file has been sent, and what its first lines said about all of it."""

    path: str
    offset: int = 0
    first: Print | None = None
    last: Print | None = None
    started_at: str = ""
    project: str = ""
    opened: bool = False
    """Whether both time and project are known: the opening lines have been read."""
    first_session: str = ""
    """The session of the first call: another one's where the file is a fork."""
    last_call_at: str = ""
    totals: str = ""
    """The digest of the session totals that were sent last."""


class _Saved(msgspec.Struct):
    version: int
    marks: dict[str, Mark]
    pushed_at: str = ""


def identity_of(stat: os.stat_result) -> str:
    """Return what stays the same when a file grows or is renamed."""
    return f"{stat.st_dev}:{stat.st_ino}"


def print_of(end: int, content: bytes | None) -> Print:
    """Return the fingerprint of a line that ends before the newline at `end - 1`."""
    tail = (content or b"")[-_PRINT_BYTES:]
    return Print(end, len(tail), digest(tail))


def digest(content: bytes) -> str:
    """Return a short fingerprint of what a file says, from which it cannot be read back."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def still_there(stream: BinaryIO, mark: Mark) -> bool:
    """Return whether the file still begins and continues as when it was marked."""
    return all(_matches(stream, seen) for seen in (mark.first, mark.last) if seen is not None)


def _matches(stream: BinaryIO, seen: Print) -> bool:
    stream.seek(seen.end - 1 - seen.length)
    read = stream.read(seen.length + 1)
    # A file that became shorter gives fewer bytes and no newline.
    return read[-1:] == b"\n" and len(read) == seen.length + 1 and digest(read[:-1]) == seen.digest


class PushState:
    """The marks of one machine towards one server, kept in one file."""

    def __init__(self, path: Path, *, fresh: bool = False, save_every_s: float = SAVE_EVERY_S) -> None:
        self._path = path
        self._save_every_s = save_every_s
        self._saved_at = -save_every_s
        saved = _read_saved(path)
        self._marks = {} if fresh else saved.marks
        self.pushed_at = saved.pushed_at
        """When everything there was had been sent; empty: never."""
        self._unsaved = False

    def mark(self, identity: str) -> Mark | None:
        """Return how far a file has been sent."""
        return self._marks.get(identity)

    def advance(self, marks: dict[str, Mark]) -> None:
        """Remember that everything before these marks has been accepted; saved at once or within a second.

        Call it only after the server accepted every event before the marks: what is marked is never sent
        again. A crash before the save sends the last second's events again, which changes nothing there.
        """
        self._unsaved = self._unsaved or any(self._marks.get(key) != mark for key, mark in marks.items())
        self._marks.update(marks)
        if time.monotonic() - self._saved_at >= self._save_every_s:
            self.save()

    def forget_vanished(self) -> None:
        """Drop the marks of files that Claude Code has cleaned up."""
        gone = [key for key, mark in self._marks.items() if not Path(mark.path).exists()]
        for key in gone:
            del self._marks[key]
        self._unsaved = self._unsaved or bool(gone)

    def completed(self, at: datetime) -> None:
        """Remember that everything there is has been sent."""
        self.pushed_at = at.isoformat(timespec="seconds")
        self._unsaved = True

    def save(self) -> None:
        """Write the marks if they changed."""
        if self._unsaved:
            replace_file(self._path, msgspec.json.encode(_Saved(_VERSION, self._marks, self.pushed_at)))
            self._unsaved = False
        self._saved_at = time.monotonic()


def _read_saved(path: Path) -> _Saved:
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        # Unreadable state means that everything is sent again, and counted once.
        return _Saved(_VERSION, {})
    return saved if saved.version == _VERSION else _Saved(_VERSION, {})
