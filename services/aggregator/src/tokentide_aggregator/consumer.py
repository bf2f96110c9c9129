"""The consumer: fetches, forms batches per partition, hands them to the processor, commits.

Invariants: a call's records are all in one partition; a partition has one batch in work at a time, in
order of offset; memory is bounded by the records of three batches over all partitions: two in work and one
waiting, beyond which nothing is fetched.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog

from tokentide_aggregator.allocator import give_back
from tokentide_aggregator.dead_letters import Brake
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.fold import ConsumedRecord
from tokentide_aggregator.processing import LOOKUP_HOLDS_S, MoreNeeded, Outcome, Processor
from tokentide_aggregator.recent import RecentRows
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import GroupConsumer, LostPartition
from tokentide_common.errors import InvalidRequest, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.retry import until_available

_WORK_AT_ONCE = 2
_HAND_OVER_S = 5.0
_DRAIN_S = 20.0
_REFILL_WAIT_MS = 200
# So long a partition that is behind waits for a whole block, should the others keep all the room. While one
# of them has a whole block that waits for its turn, that goes first, but no longer than the second of these.
_FILL_FOR_S = 5.0
_FILL_FOR_AT_MOST_S = 30.0
# So long it lets those go first that are not behind: their blocks are small, and somebody watches them.
_YIELDS_FOR_S = 1.0
_REBUILD_AGAIN_S = 60.0
# A block of so many leaves enough memory free to be worth giving back, once no other follows: each would take
# the same pages again, at 3 microseconds a record.
_MANY_RECORDS = 2000
_log = structlog.get_logger(__name__)


class Partition(msgspec.Struct):
    """What the consumer holds of one partition."""

    number: int
    recent: RecentRows
    brake: Brake
    waiting: list[ConsumedRecord]
    """Fetched, not yet in work."""
    confirmed: float
    """When the group last said that it is ours: assigned it or took a commit."""
    fetched_to: int = 0
    """The offset after the last fetched record."""
    since: float = 0.0
    """When the oldest waiting record was fetched."""
    claimed_end: int = 0
    """A boundary to wait for, claimed by an earlier owner."""
    stopped: bool = False
    """The brake has tripped."""
    leaving: bool = False
    """The group takes it away: no new work."""
    task: asyncio.Task[None] | None = None


class Consumer:
    """A member of the group of aggregators that share one topic."""

    def __init__(
        self,
        settings: AggregatorSettings,
        group: str,
        processor: Processor[Any, Any],
        counted: CountedCalls,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._group_id = group
        self._processor = processor
        self._counted = counted
        self._metrics = metrics
        self._partitions: dict[int, Partition] = {}
        self._rebuilding: asyncio.Task[None] | None = None
        self._stopping = False
        self._much_is_free = False
        self._beat = time.monotonic()
        self._group = GroupConsumer(
            settings.broker_url,
            processor.topic,
            group,
            session_timeout_ms=settings.session_timeout_ms,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )

    def alive(self) -> bool:
        """Tell whether the loop turns; an outage of the store or the broker does not stop it."""
        return time.monotonic() - self._beat < 60

    def ready(self) -> bool:
        """Tell whether it owns partitions and none is stopped by the brake."""
        return bool(self._partitions) and not any(p.stopped for p in self._partitions.values())

    async def run(self) -> None:
        """Consume until `stop` is asked for; then finish the batches in work, commit and leave."""
        if self._settings.embedded:
            await self._processor.finish_kept()
        await until_available("join", self._group.start)
        try:
            while not self._stopping:
                self._beat = time.monotonic()
                await self._turn()
        finally:
            await self._leave(list(self._partitions.values()), _DRAIN_S)
            if self._rebuilding is not None:
                self._rebuilding.cancel()
            await self._group.stop()

    def stop(self) -> None:
        """Ask the loop to end."""
        self._stopping = True

    async def _turn(self) -> None:
        hurry = any(p.waiting for p in self._partitions.values())
        wait_ms = max(5, self._settings.batch_linger_ms // 4) if hurry else _REFILL_WAIT_MS
        try:
            got = await self._group.fetch(timeout_ms=wait_ms, max_records=self._settings.batch_max_records)
        except Unavailable:
            _log.warning("broker_unavailable")
            await asyncio.sleep(0.5)
            return
        except LostPartition:
            return  # the rebalance that took it says so too
        for number, records in got.items():
            partition = self._partitions.get(number)
            if partition is not None and not partition.leaving:
                if not partition.waiting:
                    partition.since = time.monotonic()
                partition.waiting.extend(records)
                partition.fetched_to = records[-1].offset + 1
        for partition in sorted(self._partitions.values(), key=self._turn_of):
            self._start_work(partition)
        self._bound_memory()
        if self._much_is_free and not any(p.task or p.waiting for p in self._partitions.values()):
            self._much_is_free = False
            await asyncio.to_thread(give_back)
        if self._counted.full and (self._rebuilding is None or self._rebuilding.done()):
            self._rebuild_filter()  # one at a time: a rebuild takes longer than a turn

    def _start_work(self, partition: Partition) -> None:
        task = partition.task
        if task is not None and task.done():
            partition.task = None
            if not task.cancelled():
                task.result()  # an unforeseen error ends the process: to go on would skip its records
        working = sum(p.task is not None for p in self._partitions.values())
        idle = partition.task is None and not partition.stopped and not partition.leaving
        if idle and working < _WORK_AT_ONCE and self._due(partition):
            partition.task = asyncio.create_task(self._work(partition), name=f"partition-{partition.number}")

    def _due(self, partition: Partition) -> bool:
        waiting = partition.waiting
        if not waiting:
            return False
        if partition.claimed_end:
            return waiting[-1].offset + 1 >= partition.claimed_end
        size = self._settings.batch_max_records
        lingered_ms = (time.monotonic() - partition.since) * 1000
        fill_for_s = _FILL_FOR_AT_MOST_S if self._whole_block_waits() else _FILL_FOR_S
        if lingered_ms < fill_for_s * 1000 and self._missing(partition) <= self._behind(partition):
            return len(waiting) >= size  # the topic holds a whole block: small ones would cost more per call
        return len(waiting) >= size or lingered_ms >= self._settings.batch_linger_ms

    def _whole_block_waits(self) -> bool:
        size = self._settings.batch_max_records
        return any(p.task is None and len(p.waiting) >= size for p in self._partitions.values())

    def _turn_of(self, partition: Partition) -> float:
        """Return when it is a partition's turn: the longest wait first, but for a head start of some."""
        return partition.since + (0 if self._keeps_up(partition) else _YIELDS_FOR_S)

    def _keeps_up(self, partition: Partition) -> bool:
        """Tell whether, were all partitions like this one, all their records together were one block."""
        rest = len(partition.waiting) + self._behind(partition)
        return rest * len(self._partitions) <= self._settings.batch_max_records

    def _missing(self, partition: Partition) -> int:
        """Return how many records a whole block still needs."""
        return max(1, self._settings.batch_max_records - len(partition.waiting))

    def _behind(self, partition: Partition) -> int:
        """Return how many records the topic held after those in hand when it was last fetched."""
        if not partition.fetched_to:
            return 0  # nothing is known yet
        return self._group.end_offset(partition.number) - partition.fetched_to

    def _bound_memory(self) -> None:
        """Fetch on while there is room; then only what fills the fullest block, so that blocks are whole.

        A partition that keeps up is fetched even then: somebody may wait for its newest record, and all such
        partitions together hold one block at most. While it waits for the store a partition stays ours and
        keeps its heartbeat, unfetched.
        """
        size = self._settings.batch_max_records
        room = sum(len(p.waiting) for p in self._partitions.values()) < size
        idle = [p for p in self._partitions.values() if p.task is None and not p.stopped]
        fullest = max(idle, key=lambda p: len(p.waiting), default=None)
        for partition in self._partitions.values():
            wanted = len(partition.waiting) < size and (
                room or partition is fullest or self._keeps_up(partition)
            )
            if not partition.stopped and (wanted or partition.claimed_end):
                self._group.resume([partition.number])
            else:
                self._group.pause([partition.number])

    async def _work(self, partition: Partition) -> None:
        size = self._settings.batch_max_records
        if partition.claimed_end:
            size = max(size, partition.claimed_end - partition.waiting[0].offset)
        batch, partition.waiting = partition.waiting[:size], partition.waiting[size:]
        partition.since, partition.claimed_end = time.monotonic(), 0
        try:
            outcome = await self._count(partition, batch)
        except MoreNeeded as exc:
            partition.waiting[:0] = batch
            partition.claimed_end = exc.end
        except LostPartition:
            # Whoever owns it now repeats the batch under the same claim and token.
            _log.info("partition_lost", partition=partition.number)
        else:
            if outcome is not None:
                self._report(partition, outcome, batch)
                self._much_is_free = self._much_is_free or outcome.records >= _MANY_RECORDS

    async def _count(self, partition: Partition, batch: list[ConsumedRecord]) -> Outcome | None:
        claimed = await self._processor.fold(partition.number, batch)
        records, folded, _ = claimed
        if partition.brake.trips(len(records), len(folded.dead)):
            partition.stopped, partition.waiting = True, []
            _log.error("partition_stopped_by_brake", partition=partition.number, unreadable=len(folded.dead))
            self._count_stopped()
            return None
        rest = batch[len(records) :]
        partition.waiting[:0] = rest
        number = partition.number
        await self._confirm(partition, batch[0].offset)
        outcome = await self._processor.store(
            number,
            claimed,
            partition.recent,
            lambda: self._must_own(partition),
            # Should the broker have taken longer than that to confirm it, nothing in memory is trusted.
            sure=time.monotonic() - partition.confirmed < LOOKUP_HOLDS_S,
            keep=self._settings.embedded,  # its broker is in memory
        )
        await self._processor.publish(number, outcome)
        # The offset is committed last: until then a crash repeats the batch, and repeats change nothing.
        await until_available("commit", lambda: self._group.commit(number, outcome.end))
        partition.confirmed = time.monotonic()
        await self._processor.committed(number, outcome.end)
        return outcome

    async def _confirm(self, partition: Partition, done_to: int) -> None:
        """Ask the group whether a partition is still ours, if it said so too long ago.

        After a long stall another member may have counted what we have not heard of: neither the filter nor
        the recent rows are right then. A commit of what is done already tells, since the group refuses that
        of a member whose place was given away. Raises `LostPartition` when it was.
        """
        asked = time.monotonic()
        if asked - partition.confirmed > LOOKUP_HOLDS_S / 2:
            await until_available("confirm", lambda: self._group.commit(partition.number, done_to))
            partition.confirmed = asked

    def _must_own(self, partition: Partition) -> None:
        if self._partitions.get(partition.number) is not partition:
            raise LostPartition(f"partition {partition.number} was revoked")

    def _report(self, partition: Partition, outcome: Outcome, batch: list[ConsumedRecord]) -> None:
        topic = self._group.topic
        lag = max(0, self._group.end_offset(partition.number) - outcome.end)
        self._metrics.gauge(
            "tokentide_kafka_consumer_lag_records",
            group=self._group_id,
            topic=topic,
            partition=str(partition.number),
        ).set(lag)
        self._metrics.histogram("tokentide_aggregator_block_records").observe(outcome.records)
        upgraded = sum(1 for c in outcome.block.changes if c.taken_back is not None)
        new, dead = len(outcome.block.changes) - upgraded, len(outcome.dead)
        for name, number in (
            ("counted", new),
            ("upgraded", upgraded),
            ("rejected", dead),
            ("duplicate", outcome.records - new - upgraded - dead),
        ):
            counter = self._metrics.counter("tokentide_aggregator_events_total", topic=topic, outcome=name)
            counter.inc(max(0, number))
        arrived = batch[0].timestamp / 1000
        self._metrics.histogram("tokentide_event_end_to_end_latency_seconds").observe(
            max(0, time.time() - arrived)
        )
        _log.info("block_stored", topic=topic, records=outcome.records, new=new, upgraded=upgraded, dead=dead)

    def _count_stopped(self) -> None:
        stopped = sum(p.stopped for p in self._partitions.values())
        self._metrics.gauge("tokentide_aggregator_partitions_stopped", topic=self._group.topic).set(stopped)

    async def _on_assigned(self, numbers: set[int]) -> None:
        settings = self._settings
        for number in numbers:
            self._partitions[number] = Partition(
                number=number,
                recent=RecentRows(settings.recent_rows_bytes // max(1, len(numbers))),
                brake=Brake(settings.dead_letter_max_ratio, settings.dead_letter_window),
                waiting=[],
                confirmed=time.monotonic(),
            )
        self._counted.forget(numbers)
        self._rebuild_filter()
        self._count_stopped()
        _log.info("partitions_assigned", partitions=sorted(numbers))

    async def _on_revoked(self, numbers: set[int]) -> None:
        """Hand over: let batches in work end, for a while; what does not end is dropped and repeated."""
        gone = [p for n, p in self._partitions.items() if n in numbers]
        await self._leave(gone, _HAND_OVER_S)
        for partition in gone:
            del self._partitions[partition.number]
        self._counted.forget(numbers)

    async def _leave(self, partitions: list[Partition], patience_s: float) -> None:
        for partition in partitions:
            partition.leaving, partition.waiting = True, []
        tasks = [p.task for p in partitions if p.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
        for task in tasks:
            task.cancel()

    def _rebuild_filter(self) -> None:
        if self._rebuilding is not None and not self._rebuilding.done():
            self._rebuilding.cancel()
        self._rebuilding = asyncio.create_task(self._rebuild(), name="filter")

    async def _rebuild(self) -> None:
        mine = set(self._partitions)
        try:
            await until_available("filter", lambda: self._counted.rebuild(mine))
        except InvalidRequest as exc:
            # Without a filter every call is looked up: slower, and right.
            _log.error("filter_not_built", code=exc.stable_code)
            await asyncio.sleep(_REBUILD_AGAIN_S)
        size = self._counted.size_bytes
        self._metrics.gauge("tokentide_aggregator_filter_bytes", topic=self._group.topic).set(size)
