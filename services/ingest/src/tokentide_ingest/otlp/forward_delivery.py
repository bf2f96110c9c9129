"""Takes what waits on disk where it is to go: in order within a lane, again and again through an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tokentide_ingest.otlp.forward_outcomes import Outcomes
from tokentide_ingest.otlp.forward_queue import DiskQueue, Entry
from tokentide_ingest.otlp.forward_verdict import Verdict, pause_s

Deliver = Callable[[bytes], Awaitable[Verdict]]
_OPEN_AGAIN_S: Final = 1.0
_GRACE_S: Final = 5.0
_log = structlog.get_logger(__name__)


class Courier:
    """Empties a queue in the background, one request of a lane at a time."""

    def __init__(
        self, queue: DiskQueue, deliver: Deliver, outcomes: Outcomes, *, lanes: int, max_age_s: float
    ) -> None:
        self._queue = queue
        self._deliver = deliver
        self._outcomes = outcomes
        self._lane_count = lanes
        self._max_age_s = max_age_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: set[asyncio.Task[None] | None] = set()
        self._stopping = False

    async def start(self) -> None:
        """Begin with what the last process left. A folder that cannot be used is tried again."""
        self._tasks.add(asyncio.create_task(self._run()))

    async def stop(self) -> None:
        """End what waits, give what is under way a moment; what is left goes out after a restart."""
        self._stopping = True
        under_way = {task for task in self._tasks if task in self._in_flight}
        for task in self._tasks - under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._queue.close()

    async def _run(self) -> None:
        reported = ""
        while problem := await self._problem_with_folder():
            if problem != reported:
                _log.warning("forward_queue_unavailable", reason=problem)
                reported = problem
            await asyncio.sleep(_OPEN_AGAIN_S)
        self._tasks |= {asyncio.create_task(self._empty(lane)) for lane in range(self._lane_count)}

    async def _problem_with_folder(self) -> str:
        try:
            return "" if await self._queue.open() else "another process has the folder"
        except OSError as error:
            return error.strerror or type(error).__name__

    async def _empty(self, lane: int) -> None:
        attempt = 0
        while not self._stopping:
            verdict = await self._in_one_piece(self._handle(await self._queue.head(lane)))
            if verdict is None or verdict.kind != "later":
                attempt = 0
                continue
            attempt += 1
            await asyncio.sleep(pause_s(attempt, verdict.after_s))

    async def _handle(self, entry: Entry) -> Verdict | None:
        """Return the verdict on one attempt; None when there was nothing to attempt."""
        if time.time_ns() - entry.stamp > self._max_age_s * 1e9:
            if await self._queue.remove(entry):
                self._outcomes.lost("too_old")
            return None
        try:
            data = await self._queue.read(entry)
        except OSError as error:
            return Verdict("later", f"reading: errno {error.errno}")
        if data is None:
            if await self._queue.remove(entry):
                self._outcomes.lost("damaged")
            return None
        verdict = await self._attempt(data)
        # The guarantee: an entry is deleted after its delivery, so a crash in between delivers it again.
        if verdict.kind == "later":
            self._outcomes.later(verdict.detail)
        elif not await self._queue.remove(entry) and verdict.kind == "refused":
            return None  # dropped meanwhile to make room, and counted then
        elif verdict.kind == "refused":
            self._outcomes.lost("refused", verdict.detail)
        else:
            self._outcomes.delivered()
        return verdict

    async def _attempt(self, data: bytes) -> Verdict:
        try:
            return await self._deliver(data)
        except Exception:
            # A mistake of ours, not an outage: the same would happen again, and what follows must not wait.
            _log.exception("forward_delivery_failed")
            return Verdict("refused", "failed")

    async def _in_one_piece(self, work: Awaitable[Verdict | None]) -> Verdict | None:
        task = asyncio.current_task()
        self._in_flight.add(task)  # a stop waits for it, so that what arrived is also deleted
        try:
            return await work
        finally:
            self._in_flight.discard(task)
