"""The spool on disk, for the event loop: one thread of its own does what is disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from tokentide_common.outbox import Record
from tokentide_proxy.spool_log import Appended, SegmentLog

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Spool:
    """Events that wait for the broker, oldest first. One task appends, one other takes.

    Without a usable folder it holds nothing and says so; every append tries again.
    """

    def __init__(self, folder: Path, max_bytes: int, damaged: Callable[[], None]) -> None:
        self._folder = folder
        self._skipped: deque[int] = deque()  # filled by the thread, reported by the event loop
        self._log = SegmentLog(folder, max_bytes, self._skipped.append)
        self._damaged = damaged
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        self._emptied.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="proxy-spool")

    @property
    def held_bytes(self) -> int:
        """Disk that the spool takes."""
        return self._log.held_bytes

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._log.waiting_bytes == 0

    async def open(self) -> None:
        """Take over what earlier processes left. A folder that cannot be used is reported, not raised."""
        try:
            await self._in_thread(self._log.open)
        except OSError as error:
            _log.error("proxy_spool_unavailable", folder=str(self._folder), errno=error.errno)
        if not self.empty:
            _log.info("proxy_spool_taken_over", waiting_bytes=self._log.waiting_bytes)
        self._signal()

    async def append(self, records: Sequence[Record]) -> Appended:
        """Put records at the end, as many as there is room for. Never raises for the disk's sake."""
        appended = await self._in_thread(self._log.append, records)
        self._signal()
        return appended

    async def read(self, limit: int) -> list[Record]:
        """Return the oldest records, as soon as there are any; the same ones until they are removed.

        Raises `OSError`.
        """
        while not (records := await self._in_thread(self._log.read, limit)):
            self._signal()
            await self._filled.wait()
        return records

    async def remove(self) -> None:
        """Forget what was read last. Raises `OSError`."""
        await self._in_thread(self._log.remove)
        self._signal()

    async def emptied(self) -> None:
        """Return once nothing waits."""
        await self._emptied.wait()

    async def close(self) -> None:
        """Let go of the folder; what waits stays in it."""
        await self._in_thread(self._log.close)
        self._thread.shutdown()

    def _signal(self) -> None:
        full, other = (self._emptied, self._filled) if self.empty else (self._filled, self._emptied)
        full.set()
        other.clear()
        while self._skipped:
            _log.error("proxy_spool_damaged", skipped_bytes=self._skipped.popleft())
            self._damaged()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
