"""Work that is done again and again in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tokentide_common.errors import Unavailable

MINUTE_S: Final = 60.0
_log = structlog.get_logger(__name__)


class Every:
    """Does `work` every `seconds`, and once more `at_end`; what is away then is tried again next time.

    `failed` is the event by which the log tells of that.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[], Awaitable[None]],
        *,
        seconds: float = MINUTE_S,
        at_end: bool = True,
        failed: str = "background_work_failed",
    ) -> None:
        self._what = what
        self._at_end = at_end
        self._failed = failed
        self._work = work
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._again_and_again(), name=self._what)

    async def now(self) -> None:
        """Do it at once."""
        await self._once()

    async def stop(self) -> None:
        """End, after a last time if that was asked for."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        if self._at_end:
            await self._once()

    async def _again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self._once()

    async def _once(self) -> None:
        try:
            await self._work()
        except Unavailable as error:
            _log.warning(self._failed, what=self._what, code=error.stable_code)
        except Exception:
            # A mistake of ours, or a row that nobody foresaw: it is told, and there is a next time.
            _log.exception(self._failed, what=self._what)
