"""A bounded queue on disk: a file for each request, in lanes that keep their order.

A file is complete before it has its name, so that a process killed at any moment leaves whole requests; what
a power cut damages is told by its checksum. Files are not synced one by one: they outlive the process, not
the machine's last seconds. A name says when and which lane, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import structlog

from tokentide_common.private_folder import FolderLock, private_folder

T = TypeVar("T")
DropReason = Literal["queue_full", "disk_error"]
_SUFFIX: Final = ".request"
_NAME: Final = re.compile(r"(\d{20})-(\d{2})\.request")
_CHECKSUM_BYTES: Final = 4
_DISK_BLOCK: Final = 4096
_log = structlog.get_logger(__name__)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A request on disk. `stamp` is when it came, in Unix nanoseconds, and unlike any other's."""

    stamp: int
    lane: int
    size: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.stamp:020d}-{self.lane:02d}{_SUFFIX}"


class DiskQueue:
    """Lanes of requests in one folder. All state is the event loop's; two threads do what is disk."""

    def __init__(
        self, folder: Path, *, lanes: int, max_bytes: int, dropped: Callable[[DropReason], None]
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._dropped = dropped
        self._lanes: list[deque[Entry]] = [deque() for _ in range(lanes)]
        self._filled = [asyncio.Event() for _ in range(lanes)]
        self._lock = FolderLock(folder)
        self._open = False
        self._last_stamp = 0
        self._appending: set[asyncio.Task[bool]] = set()
        self._writing: dict[int, Entry] = {}
        # One thread each, so that what is written stays in order and does not wait behind what is read.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="forward-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="forward-reader")
        self.held_bytes = 0
        """What the files take on disk, those included that are being written."""

    @property
    def held_requests(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._lanes))

    async def open(self) -> bool:
        """Take over the folder with all that it holds; False while another process has it.

        Raises `OSError` when the folder cannot be used. What is appended before is kept on disk.
        """
        found = await self._in(self._writer, self._take_over)
        if found is None:
            return False
        for entry in found:
            self._writing.pop(entry.stamp, None)  # its writer need not list it any more
            self._list(entry)
        self.held_bytes = sum(entry.size for entry in (*found, *self._writing.values()))
        self._open = True
        return True

    async def append(self, lane: int, data: bytes) -> bool:
        """Put a request at the end of its lane; the oldest ones go when there is no room.

        Says whether it is on disk. A caller that is cancelled leaves no half of it behind.
        """
        task = asyncio.create_task(self._append(lane, data))
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)
        return await asyncio.shield(task)

    async def head(self, lane: int) -> Entry:
        """Return the oldest entry of a lane, as soon as there is one."""
        while not self._lanes[lane]:
            self._filled[lane].clear()
            await self._filled[lane].wait()
        return self._lanes[lane][0]

    async def read(self, entry: Entry) -> bytes | None:
        """Return what was appended; None when the file is gone or damaged. Raises `OSError`."""
        return await self._in(self._reader, self._read, entry)

    async def remove(self, entry: Entry) -> bool:
        """Delete an entry; False when it was dropped before, to make room."""
        lane = self._lanes[entry.lane]
        if not lane or lane[0] is not entry:
            return False
        lane.popleft()
        await self._in(self._reader, self._delete, [entry])
        self.held_bytes -= entry.size
        return True

    async def close(self) -> None:
        """Let go of the folder; what waits stays in it."""
        await asyncio.gather(*self._appending, return_exceptions=True)
        await self._in(self._writer, self._lock.release)
        self._writer.shutdown()
        self._reader.shutdown()

    async def _append(self, lane: int, data: bytes) -> bool:
        entry = Entry(self._next_stamp(), lane, _size_on_disk(len(data) + _CHECKSUM_BYTES))
        victims = self._make_room(entry.size)
        if victims is None:
            self._dropped("queue_full")
            return False
        self.held_bytes += entry.size
        self._writing[entry.stamp] = entry
        try:
            await self._in(self._writer, self._write, entry, data, victims)
        except OSError as error:
            del self._writing[entry.stamp]
            self.held_bytes -= entry.size
            self._dropped("disk_error")
            _log.warning("forward_queue_write_failed", errno=error.errno)
            return False
        if (
            self._writing.pop(entry.stamp, None) and self._open
        ):  # else it is found when the folder is taken over
            self._list(entry)
        return True

    def _list(self, entry: Entry) -> None:
        self._lanes[entry.lane].append(entry)
        self._filled[entry.lane].set()

    def _make_room(self, size: int) -> list[Entry] | None:
        """Take the oldest entries out until `size` fits; None when it cannot."""
        victims: list[Entry] = []
        while self.held_bytes + size > self._max_bytes:
            oldest = min((lane for lane in self._lanes if lane), key=lambda lane: lane[0].stamp, default=None)
            if oldest is None or size > self._max_bytes:
                return None
            victims.append(oldest.popleft())
            self.held_bytes -= victims[-1].size
            self._dropped("queue_full")
        return victims

    def _next_stamp(self) -> int:
        self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
        return self._last_stamp

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)

    def _take_over(self) -> list[Entry] | None:
        private_folder(self._folder)
        if not self._lock.acquire():
            return None
        for unfinished in self._folder.glob("*.part"):
            unfinished.unlink(missing_ok=True)
        found = (_entry(path) for path in self._folder.iterdir())
        return sorted(
            (entry for entry in found if entry and entry.lane < len(self._lanes)),
            key=lambda entry: entry.stamp,
        )

    def _write(self, entry: Entry, data: bytes, victims: list[Entry]) -> None:
        self._delete(victims)
        path = self._folder / entry.name
        part = path.with_suffix(".part")
        try:
            file = _create(part)
        except FileNotFoundError:
            private_folder(self._folder)
            file = _create(part)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big"))
                stream.write(data)
            # The guarantee: a request has its name once all of it is written, so a crash leaves no halves.
            part.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def _read(self, entry: Entry) -> bytes | None:
        try:
            content = (self._folder / entry.name).read_bytes()
        except FileNotFoundError:
            return None
        data = content[_CHECKSUM_BYTES:]
        return (
            data if zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") == content[:_CHECKSUM_BYTES] else None
        )

    def _delete(self, entries: list[Entry]) -> None:
        for entry in entries:
            (self._folder / entry.name).unlink(missing_ok=True)


def waits_in(folder: Path) -> bool:
    """Return whether requests wait in a folder."""
    try:
        return any(_NAME.fullmatch(path.name) for path in folder.iterdir())
    except OSError:
        return False


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _entry(path: Path) -> Entry | None:
    named = _NAME.fullmatch(path.name)
    return Entry(int(named[1]), int(named[2]), _size_on_disk(path.stat().st_size)) if named else None


def _size_on_disk(count: int) -> int:
    return -(-count // _DISK_BLOCK) * _DISK_BLOCK
