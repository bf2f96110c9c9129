"""Groups what many publish at once into batches per partition.

A record sent by itself costs five times the CPU of one in a batch. A partition has one round on its way at a
time; what is published meanwhile goes with the next, so that batches grow with the load and nobody lingers.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

Headers = Sequence[tuple[str, bytes]]


class Record(msgspec.Struct, frozen=True, gc=False):
    """What goes on a topic. Records with the same key land in the same partition, in order."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class DriverBatch(Protocol):
    """The driver's batch of records for one partition."""

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: int | None, headers: Headers
    ) -> object | None:
        """Add a record; None: it is full."""

    def close(self) -> None:
        """Let nothing more in, so that it goes at once."""


class DriverProducer(Protocol):
    """The driver's producer."""

    async def partitions_for(self, topic: str) -> set[int]:
        """Return the partitions of a topic."""

    def create_batch(self) -> DriverBatch:
        """Return an empty batch."""

    async def send_batch(self, batch: DriverBatch, topic: str, *, partition: int) -> Awaitable[object]:
        """Queue a batch; what it returns is done once the broker has the batch."""


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition of a key: the same for every publisher, any one without a key.

    CRC-32 instead of the driver's Murmur2, which is written in Python and takes longer than all the rest.
    """
    if key is None:
        return random.randrange(partitions)  # noqa: S311 - spreads load, guards nothing
    return zlib.crc32(key) % partitions


class Outbox:
    """Sends records in batches, in the order in which they were given per partition."""

    def __init__(self, producer: DriverProducer) -> None:
        self._producer = producer
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def send(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record. When cancelled, what is not on its way is dropped."""
        partitions = len(await self._producer.partitions_for(topic))
        groups: dict[int, list[Record]] = {}
        for record in records:
            groups.setdefault(partition_of(record.key, partitions), []).append(record)
        await asyncio.gather(*(self._lane(topic, number).put(group) for number, group in groups.items()))

    async def flush(self) -> None:
        """Return once all is sent or failed; when cancelled, what is left fails."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lane(self, topic: str, partition: int) -> _Lane:
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(self._producer, topic, partition)
        return lane


class _Lane:
    """The way to one partition."""

    def __init__(self, producer: DriverProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._waiting: dict[asyncio.Future[None], Sequence[Record]] = {}
        self.task: asyncio.Task[None] | None = None

    def put(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Queue records; the future is done once the broker has all of them."""
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[acknowledged] = records
        # Whoever gives up has told the sender so: its records must not pile up here.
        acknowledged.add_done_callback(self._drop)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run(), name=f"publish-{self._topic}-{self._partition}")
        return acknowledged

    def _drop(self, acknowledged: asyncio.Future[None]) -> None:
        self._waiting.pop(acknowledged, None)

    async def _run(self) -> None:
        while self._waiting:
            futures = list(self._waiting)
            failure: Exception | None = ConnectionError("the publisher has stopped")
            try:
                await self._send(self._pack())
                failure = None
            except Exception as exc:
                failure = exc
            finally:
                _settle(futures, failure)
                del failure  # its traceback holds this frame: the batches must not live until that is found

    def _pack(self) -> list[DriverBatch]:
        batches = [self._producer.create_batch()]
        for records in self._waiting.values():
            for record in records:
                if not _append(batches[-1], record):
                    batches.append(self._producer.create_batch())
                    if not _append(batches[-1], record):
                        raise ValueError("a record is larger than a batch")
        self._waiting = {}
        return batches

    async def _send(self, batches: list[DriverBatch]) -> None:
        on_their_way: list[Awaitable[object]] = []
        try:
            for batch in batches:
                batch.close()
                sent = await self._producer.send_batch(batch, self._topic, partition=self._partition)
                on_their_way.append(sent)
        finally:
            # The guarantee: acks=all for each batch, or an error. Nothing is acknowledged on hope.
            await asyncio.gather(*on_their_way)


def _append(batch: DriverBatch, record: Record) -> bool:
    headers = list(record.headers)
    return batch.append(key=record.key, value=record.value, timestamp=None, headers=headers) is not None


def _settle(futures: Sequence[asyncio.Future[None]], failure: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)
