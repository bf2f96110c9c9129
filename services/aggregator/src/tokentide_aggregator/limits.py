"""Keeps the latest word on each limit: reads facts, writes rows of which the newest counts, commits.

Nothing is summed, so repeats and disorder change nothing, and neither claim nor index is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from tokentide_aggregator.dead_letters import dead_letter_records
from tokentide_aggregator.fold import ConsumedRecord, DeadLetter
from tokentide_aggregator.limit_rows import COLUMNS, rows_of
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import GroupConsumer, LostPartition, Publisher
from tokentide_common.errors import Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.retry import until_available
from tokentide_common.store import Store
from tokentide_common.topics import DEAD_LETTERS, LIMITS

# Gauges are told once a second; a block for each second is little for the store.
_EVERY_S: Final = 1.0
_MOST_RECORDS: Final = 5000
_HAND_OVER_S: Final = 5.0
_log = structlog.get_logger(__name__)


class LimitsConsumer:
    """A member of the group of aggregators that keep limits."""

    def __init__(
        self, settings: AggregatorSettings, group: str, store: Store, publisher: Publisher, metrics: Metrics
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._stopped = asyncio.Event()
        self._group = GroupConsumer(
            settings.broker_url, LIMITS, group, session_timeout_ms=settings.session_timeout_ms, wait_ms=500
        )

    def alive(self) -> bool:
        """A gauge that stands still is no reason to restart what counts calls."""
        return True

    def ready(self) -> bool:
        """Nobody waits for limits, and there may be more aggregators than partitions of them."""
        return True

    def stop(self) -> None:
        """Ask the loop to end."""
        self._stopped.set()

    async def run(self) -> None:
        """Consume until `stop` is asked for, then leave the group."""
        work = asyncio.create_task(self._work(), name="limits")
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({work}, timeout=_HAND_OVER_S)
        finally:
            stopped.cancel()
            work.cancel()  # at any point: what is not committed is read again and changes nothing
            await asyncio.wait({work})
            await self._group.stop()
        if not work.cancelled():
            work.result()

    async def _work(self) -> None:
        await until_available("join", self._group.start)
        while not self._stopped.is_set():
            try:
                got = await self._group.fetch(timeout_ms=500, max_records=_MOST_RECORDS)
            except Unavailable:
                _log.warning("broker_unavailable")
                got = {}
            except LostPartition:
                continue
            if got:
                await self._keep(got)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._stopped.wait()

    async def _keep(self, got: Mapping[int, Sequence[ConsumedRecord]]) -> None:
        rows, dead = [], {}
        for partition, records in got.items():
            of_partition, dead[partition] = rows_of(records)
            rows += of_partition
            self._count(records, dead[partition])
        if rows:
            block = b"\n".join(rows)
            await until_available("limits", lambda: self._store.insert("limits", block, columns=COLUMNS))
        letters = [letter for p, some in dead.items() for letter in dead_letter_records(LIMITS, p, some)]
        if letters:
            await until_available("publish", lambda: self._publisher.publish(DEAD_LETTERS, letters))
        for partition, records in got.items():
            # Whoever owns it now reads it again: the newest fact is the same one.
            with contextlib.suppress(LostPartition, Unavailable):
                # The guarantee: committed after it is stored, or a crash in between would lose it.
                await self._group.commit(partition, records[-1].offset + 1)

    def _count(self, records: Sequence[ConsumedRecord], dead: Sequence[DeadLetter]) -> None:
        for outcome, number in (("counted", len(records) - len(dead)), ("rejected", len(dead))):
            self._metrics.counter("tokentide_aggregator_events_total", topic=LIMITS, outcome=outcome).inc(
                number
            )
        for letter in dead:
            self._metrics.counter("tokentide_dlq_events_total", reason=letter.reason).inc()
