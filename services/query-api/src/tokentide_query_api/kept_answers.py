"""Answers of the store, kept until something changes that they were read from: dashboards ask the same again.

A kept answer is given only to a question before which the store was looked at, and held in each table what it
held before the answer was read. Whoever asks after something has become visible is told of it, as if nothing
were kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from tokentide_common.errors import TokentideError
from tokentide_common.metrics import Metrics
from tokentide_common.store import Readable, Setting

# The names of a table's parts say all that it holds: no part ever changes, and none comes back. Where merges
# leave all sums as they are, inserted blocks and mutations say it too: no merge changes those.
_STATE: Final = """
SELECT table, if(any(engine) IN ('MergeTree', 'SummingMergeTree'),
  cityHash64(max(max_block_number), sum(max_block_number - min_block_number + 1),
    max(toUInt64OrZero(splitByChar('_', name)[5]))),
  groupBitXor(cityHash64(name)))
FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table
"""
# The parts of such a table are elsewhere, where nobody looks.
_ELSEWHERE: Final = """
SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine = 'Distributed'
"""
_log = structlog.get_logger(__name__)
_ENTRY_BYTES: Final = 1000
_SHARE: Final = 4
"""No answer may take more than this part of the room."""

State = tuple[tuple[str, str], ...]
"""(table, what it holds) of the tables that a question reads."""


class _Kept(msgspec.Struct):
    state: State
    answer: asyncio.Future[bytes]
    size: int = 0


class KeptAnswers:
    """A store that reads what it was asked already only if that can have changed."""

    def __init__(self, store: Readable, limit_bytes: int, metrics: Metrics) -> None:
        self._store = store
        self._limit = limit_bytes
        self._metrics = metrics
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._size = 0
        self._looking: asyncio.Task[Mapping[str, str]] | None = None
        self._next: asyncio.Task[Mapping[str, str]] | None = None
        self._elsewhere: bool | None = None

    async def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        *,
        fmt: str = "JSONEachRow",
        settings: Mapping[str, Setting] | None = None,
    ) -> bytes:
        """Read like `Store.read`; the same question at the same state is read once, by however many asked."""
        state = await self._state_of(sql) if self._limit else ()
        if not state:
            return await self._store.read(sql, params, fmt=fmt, settings=settings)
        asked = repr((sql, sorted((params or {}).items()), fmt, sorted((settings or {}).items())))
        key = hashlib.sha256(asked.encode()).digest()
        kept = self._kept.get(key)
        if kept is None or kept.state != state:
            self._drop(key)
            reading = asyncio.ensure_future(self._store.read(sql, params, fmt=fmt, settings=settings))
            kept = self._kept[key] = _Kept(state, reading)
            reading.add_done_callback(lambda _: self._came(key, kept))
            self._count("read")
        else:
            self._kept.move_to_end(key)
            self._count("kept")
        # Shielded: whoever goes away must not take the answer from the others.
        return await asyncio.shield(kept.answer)

    def _came(self, key: bytes, kept: _Kept) -> None:
        if kept.answer.cancelled() or kept.answer.exception() is not None:
            if self._kept.get(key) is kept:
                del self._kept[key]
        elif self._kept.get(key) is kept:
            kept.size = len(kept.answer.result()) + _ENTRY_BYTES
            self._size += kept.size
            if kept.size > self._limit // _SHARE:
                self._drop(key)
            while self._size > self._limit:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size

    def _count(self, how: str) -> None:
        self._metrics.counter("tokentide_query_answers_total", how=how).inc()

    async def _state_of(self, sql: str) -> State:
        """Return what the tables of a question hold; nothing if that cannot be known."""
        try:
            if self._elsewhere is None:
                self._elsewhere = await self._store.read(_ELSEWHERE, fmt="TSV") != b"0\n"
            held = {} if self._elsewhere else await self._look()
        except TokentideError as exc:
            # Where parts are not shown, nothing is kept; a store that is away says so when it is read.
            self._count("unseen")
            _log.debug("answers_not_kept", code=exc.stable_code)
            return ()
        words = set(re.findall(r"\w+", sql))
        return tuple(sorted((table, state) for table, state in held.items() if table in words))

    async def _look(self) -> Mapping[str, str]:
        """Look at the store after this was called; all who ask while one look lasts share the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_after(self._looking), name="look at the store")
            self._next.add_done_callback(lambda look: look.cancelled() or look.exception())
        return await asyncio.shield(self._next)

    async def _look_after(self, before: asyncio.Task[Mapping[str, str]] | None) -> Mapping[str, str]:
        if before is not None:
            await asyncio.wait({before})
        self._looking, self._next = self._next, None
        raw = await self._store.read(_STATE, fmt="TSV")
        return dict(line.split("\t") for line in raw.decode().splitlines())
