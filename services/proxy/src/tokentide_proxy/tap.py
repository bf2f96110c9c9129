"""The tap: what the proxy has seen leaves for the topics beside the traffic, never before or within it.

`offer` puts an event into memory and is done. One task empties the memory: into the broker, or onto the spool
when the broker is away. Another empties the spool. While anything is spooled all that is new goes behind it,
so that order is kept. Where the broker keeps its records in memory (embedded) every event goes through the
spool, at once, and stays there until it is stored: a killed system loses only what was not yet on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from tokentide_common.errors import Unavailable
from tokentide_common.events import UsageEvent, encode_event
from tokentide_common.metrics import Metrics
from tokentide_common.outbox import Record
from tokentide_common.retry import until_available
from tokentide_common.tag_bound import TagBound
from tokentide_common.topics import USAGE
from tokentide_proxy.delivery import Delivery, Publishes
from tokentide_proxy.drops import Drops
from tokentide_proxy.exchange import Headers, Observer
from tokentide_proxy.latest_limits import LatestLimits
from tokentide_proxy.settings import ProxySettings
from tokentide_proxy.spool import Spool

# A publish has a deadline: what has piled up goes in pieces that meet it.
_PIECE: Final = 1000
# No event of ours is a tenth of it; a larger one the broker would refuse again and again.
_MAX_EVENT_BYTES: Final = 64 * 1024
_AFTER_FAILURE_S: Final = 1.0
# Between two requests to the broker, while less than a piece waits: what one costs is shared by more events.
_BETWEEN_S: Final = 0.05
_log = structlog.get_logger(__name__)


class Tap:
    """Takes usage events and limit facts from the traffic. It can fail; the traffic does not notice."""

    def __init__(self, settings: ProxySettings, publisher: Publishes, metrics: Metrics) -> None:
        self._spool_first = settings.embedded
        self._room = settings.proxy_buffer_events
        # A small buffer is emptied while there is room in it for what comes meanwhile.
        self._enough = min(_PIECE, self._room // 4)
        self._drops = Drops(metrics)
        self._spool = Spool(
            Path(settings.proxy_spool_dir), settings.proxy_spool_bytes, lambda: self._drops.count("damaged")
        )
        self._delivery = Delivery(settings.broker_url, publisher, metrics, embedded=settings.embedded)
        self._limits = LatestLimits(self._delivery)
        self._tags = TagBound(metrics, source="proxy", values=settings.tag_values)
        self._buffer: list[Record] = []
        self._in_hand: list[Record] = []
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        """Enough for a request, or the end."""
        self._passed_on_at = -_BETWEEN_S
        self._stopping = self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        metrics.gauge("tokentide_proxy_events_buffered").set_function(lambda: len(self._buffer))
        metrics.gauge("tokentide_proxy_spool_bytes").set_function(lambda: self._spool.held_bytes)

    def offer(self, event: UsageEvent) -> None:
        """Take an event. Never raises, never waits; without room the event is dropped and counted."""
        buffer = self._buffer
        if self._stopped or len(buffer) >= self._room:
            self._drops.count("stopped" if self._stopped else "buffer_full")
            return
        try:
            if event.tags:
                event.tags = self._tags.kept(event.org_id, event.tags)
            value = encode_event(event)
            record = Record(event.call_id.encode(), value)
        except Exception:  # a mistake of ours is no reason to fail a client's call
            self._drops.count("invalid")
            return
        if len(value) > _MAX_EVENT_BYTES:
            self._drops.count("invalid")
            return
        if not buffer:
            self._some.set()
        buffer.append(record)
        if len(buffer) >= self._enough:
            self._many.set()

    def offer_limits(self, headers: Headers, seen: Observer) -> None:
        """Take what an answer's headers say of limits. Never raises, never waits; the latest count."""
        self._limits.take(headers, seen)

    async def start(self) -> None:
        """Begin, with what earlier processes left on disk. Neither a broker nor a disk need be there."""
        await self._spool.open()
        self._delivery.open()
        self._limits.start()
        self._tasks = [
            asyncio.create_task(self._empty_buffer(), name="proxy-tap"),
            asyncio.create_task(self._empty_spool(), name="proxy-spool"),
        ]

    async def stop(self, drain_s: float) -> None:
        """Deliver what waits; what has not arrived after `drain_s` stays on disk for the next start."""
        self._stopping = True
        self._some.set()
        self._many.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                if self._tasks:
                    await asyncio.wait(self._tasks[:1])
                await self._limits.flush()
                await self._spool.emptied()
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._limits.stop()
        await self._delivery.close()
        # The guarantee: what was taken and not delivered is on disk before the process ends.
        left, self._in_hand, self._buffer = [*self._in_hand, *self._buffer], [], []
        await self._spool_or_drop(left)
        await self._spool.close()
        self._drops.close()

    async def _empty_buffer(self) -> None:
        while not (self._stopping and not self._buffer):
            # What ends within a moment is offered together, and what comes while this is on its way goes with
            # the next. Only who has just sent waits for more.
            await self._some.wait()
            if not self._spool_first:
                await self._gather()
            if not self._stopping:
                self._some.clear()
                self._many.clear()
            self._passed_on_at = monotonic()
            self._in_hand, self._buffer = self._buffer, []
            await self._pass_on(self._in_hand)
            self._in_hand = []

    async def _gather(self) -> None:
        left_s = self._passed_on_at + _BETWEEN_S - monotonic()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._many.wait()

    async def _pass_on(self, records: Sequence[Record]) -> None:
        """Publish records, or put them on the spool, or drop them."""
        if not self._spool_first and self._spool.empty:
            published = await self._publish(records)
            await self._spool_or_drop(records[published:])
        else:
            await self._spool_or_drop(records, or_publish=True)

    async def _spool_or_drop(self, records: Sequence[Record], *, or_publish: bool = False) -> None:
        if not records:
            return
        appended = await self._spool.append(records)
        left = records[appended.kept :]
        if left and or_publish:
            # Before its turn, but not lost: whatever the order, the aggregator comes to the same numbers.
            left = left[await self._publish(left) :]
        if left and appended.problem:
            self._drops.count(appended.problem, len(left))

    async def _publish(self, records: Sequence[Record]) -> int:
        """Publish in pieces and return how many records the broker has."""
        for start in range(0, len(records), _PIECE):
            try:
                await self._delivery.publish(USAGE, records[start : start + _PIECE])
            except Unavailable:
                return start
            except Exception:
                _log.exception("proxy_publish_failed")  # a mistake of ours: the spool keeps what it was about
                return start
        return len(records)

    async def _empty_spool(self) -> None:
        await self._delivery.opened()  # until then there is nothing to try, and nothing to complain of
        while True:
            try:
                records = await self._spool.read(_PIECE)
                await until_available("proxy_spool", partial(self._delivery.settle, records))
                # The guarantee: removed after delivery, so a crash in between delivers them again.
                await self._spool.remove()
            except Exception:  # the disk, or a mistake of ours: neither ends the emptying
                _log.exception("proxy_spool_failed")
                await asyncio.sleep(_AFTER_FAILURE_S)
