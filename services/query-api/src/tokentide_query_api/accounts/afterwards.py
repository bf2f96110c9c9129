"""Work that is done after the answer, so that how long it takes tells whoever asked nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final

import structlog

from tokentide_common.errors import Unavailable

_AT_ONCE: Final = 2
_WAITING: Final = 1_000
_log = structlog.get_logger(__name__)


class Afterwards:
    """Does work in the background, a little at once; what is too much is left, and logged."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, what: str, work: Coroutine[object, object, None]) -> None:
        """Have something done; never waits, never fails."""
        if len(self._tasks) >= _WAITING:
            work.close()
            _log.warning("background_work_left", what=what)
            return
        task = asyncio.create_task(self._done(what, work), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finished(self) -> None:
        """Wait until all of it is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _done(self, what: str, work: Coroutine[object, object, None]) -> None:
        async with self._turns:
            try:
                await work
            except Unavailable as error:
                _log.warning("background_work_failed", what=what, code=error.stable_code)
