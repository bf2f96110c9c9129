"""What was counted lately, in memory: read from its topic once, for all who watch.

The ring is the only buffer: each stream has no more than its place in it, so a slow one costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from tokentide_common.broker import Tail
from tokentide_common.errors import Unavailable
from tokentide_common.topics import COUNTED
from tokentide_query_api.live.changes import Changes, read_changes

_MOST_ENTRIES: Final = 2000
_MOST_ROWS: Final = 20_000
_KEYS_KEPT: Final = 4096
_BACK: Final = 500
_AGAIN_S: Final = 1.0
_ID: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
_log = structlog.get_logger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """What a record changed; None: more than was told."""

    offset: int
    stamp: int
    changes: Changes | None

    @property
    def event_id(self) -> str:
        """The same on every replica: place and time of the record, which together name it for good.

        Never told as it is: see `EventIds`. Of one width, for its seal hides no length.
        """
        return f"{self.offset:015}-{self.stamp:015}"

    @property
    def rows(self) -> int:
        """How many rows it holds in memory."""
        return sum(map(len, (self.changes or {}).values()))


class LiveHub:
    """Reads from when somebody watches for the first time; `close` ends every stream."""

    def __init__(self, broker_url: str) -> None:
        self._tail = Tail(broker_url, COUNTED)
        self._ring: deque[Entry] = deque()
        self._rows = 0
        self._keys: deque[bytes] = deque(maxlen=_KEYS_KEPT)
        self._known: set[bytes] = set()
        self._next = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.closed = False

    async def open(self) -> None:
        """Return once nothing that is counted from now on is missed. Raises `Unavailable`."""
        async with self._opening:
            if self._task is None and not self.closed:
                try:
                    self._next, end = await self._tail.start(after=None, back=_BACK)
                    while self._next < end:  # whoever resumes may have seen one of these last
                        await self._fetch()
                except BaseException:  # also of who leaves meanwhile: the next one begins as if nobody had
                    await self._forget()
                    raise
                self._task = asyncio.create_task(self._read(), name="live")

    async def stop(self) -> None:
        """End every stream and read no more."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._tail.stop()

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        self._wake()

    @property
    def newest_id(self) -> str:
        """The id of the newest entry; empty where there is none."""
        return self._ring[-1].event_id if self._ring else ""

    @property
    def newest(self) -> int:
        """The place of a stream that has seen everything."""
        return self._ring[-1].offset if self._ring else self._next - 1

    def place_of(self, event_id: str) -> int | None:
        """Return the place of a stream that saw this event last; None where the ring does not reach there."""
        if not _ID.fullmatch(event_id):
            return None
        return next((entry.offset for entry in self._ring if entry.event_id == event_id), None)

    async def after(self, place: int, *, wait_s: float) -> Sequence[Entry] | None:
        """Return what came after a place, waiting for it; None where some of it has left the ring."""
        if place >= self.newest and not self.closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        oldest = self._ring[0].offset if self._ring else self._next
        if not oldest - 1 <= place <= self.newest:
            return None
        return [entry for entry in self._ring if entry.offset > place]

    def take(self, offset: int, stamp: int, key: bytes, value: bytes) -> None:
        """Add a record; one that was told before changes nothing but what was seen last."""
        self._next = offset + 1
        if key in self._known:
            changes: Changes | None = {}
        else:
            changes = _changes(value)
            if len(self._keys) == _KEYS_KEPT:
                self._known.discard(self._keys[0])
            self._keys.append(key)
            self._known.add(key)
        entry = Entry(offset, stamp, changes)
        self._ring.append(entry)
        self._rows += entry.rows
        while len(self._ring) > _MOST_ENTRIES or (self._rows > _MOST_ROWS and len(self._ring) > 1):
            self._rows -= self._ring.popleft().rows
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _read(self) -> None:
        while True:
            try:
                await self._fetch()
            except Unavailable:
                await self._start_again()

    async def _fetch(self) -> None:
        for record in await self._tail.fetch():
            self.take(record.offset, record.timestamp, record.key or b"", record.value or b"")

    async def _forget(self) -> None:
        self._ring.clear()
        self._rows = 0
        self._keys.clear()
        self._known.clear()
        await self._tail.stop()

    async def _start_again(self) -> None:
        """Go on where we were; where the broker has forgotten that, everybody begins anew."""
        _log.warning("live_interrupted")
        await self._tail.stop()
        while True:
            await asyncio.sleep(_AGAIN_S)
            with contextlib.suppress(Unavailable):
                start, _ = await self._tail.start(after=self._next - 1, back=0)
                if start != self._next:
                    self._ring.clear()
                    self._rows, self._next = 0, start
                    self._wake()
                return


def _changes(value: bytes) -> Changes | None:
    if not value:
        return None
    try:
        return read_changes(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # not written by an aggregator of ours: nobody can say what changed
