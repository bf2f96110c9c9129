"""Groups what many publish at once into requests per broker.

A record sent by itself costs five times the CPU of one in a batch. A broker has one round on its way at a
time; what is published meanwhile goes with the next, so that batches grow with the load and nobody lingers.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

Headers = Sequence[tuple[str, bytes]]
Destination = tuple[str, int]
"""A topic and one of its partitions."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What goes on a topic. Records with the same key land in the same partition, in order."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


Cargo = Mapping[Destination, Sequence[Record]]


class Driver(Protocol):
    """The driver's producer, and two ways to send with it."""

    async def partitions_of(self, topic: str) -> int:
        """Return how many partitions a topic has."""

    def leader_of(self, destination: Destination) -> int | None:
        """Return the broker that takes what goes there, as far as it is known."""

    async def send_at_once(self, leader: int, cargo: Cargo) -> Collection[Destination]:
        """Send all to one broker in as few requests as it takes; return whose records it did not confirm.

        The short way: no leader is looked for, nothing is sent again. A broker that is away confirms nothing.
        """

    async def send_with_care(self, destination: Destination, records: Sequence[Record]) -> None:
        """Return once the broker has all; the driver looks for the leader and sends again, or raises."""


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition of a key: the same for every publisher, any one without a key.

    CRC-32 instead of the driver's Murmur2, which is written in Python and takes longer than all the rest.
    """
    if key is None:
        return random.randrange(partitions)  # noqa: S311 - spreads load, guards nothing
    return zlib.crc32(key) % partitions


class Outbox:
    """Sends records in batches, in the order in which they were given per partition while no broker fails."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lanes: dict[int | None, _Lane] = {}

    async def send(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has every record. When cancelled, what is not on its way is dropped."""
        driver = self._driver
        partitions = await driver.partitions_of(topic)
        grouped: dict[Destination, list[Record]] = {}
        for record in records:
            grouped.setdefault((topic, partition_of(record.key, partitions)), []).append(record)
        by_leader: dict[int | None, dict[Destination, list[Record]]] = {}
        for destination, group in grouped.items():
            by_leader.setdefault(driver.leader_of(destination), {})[destination] = group
        sent = [self._lane(leader).put(cargo) for leader, cargo in by_leader.items()]
        if len(sent) == 1:
            await sent[0]
        else:
            await asyncio.gather(*sent)

    async def flush(self) -> None:
        """Return once all is sent or failed; when cancelled, what is left fails."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lane(self, leader: int | None) -> _Lane:
        lane = self._lanes.get(leader)
        if lane is None:
            lane = self._lanes[leader] = _Lane(self._driver, leader)
        return lane


class _Lane:
    """The way to one broker, or of what nobody leads."""

    def __init__(self, driver: Driver, leader: int | None) -> None:
        self._driver = driver
        self._leader = leader
        self._waiting: dict[asyncio.Future[None], Cargo] = {}
        self.task: asyncio.Task[None] | None = None

    def put(self, cargo: Cargo) -> asyncio.Future[None]:
        """Queue records; the future is done once the broker has all of them."""
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[acknowledged] = cargo
        # Whoever gives up has told the sender so: its records must not pile up here.
        acknowledged.add_done_callback(self._drop)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._run(), name=f"publish-{self._leader}")
        return acknowledged

    def _drop(self, acknowledged: asyncio.Future[None]) -> None:
        self._waiting.pop(acknowledged, None)

    async def _run(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, {}
            failures: Mapping[Destination, Exception] | None = None
            try:
                failures = await self._send(taken)
            except Exception as exc:  # whoever waits is told, and the next round begins
                failures = {destination: exc for cargo in taken.values() for destination in cargo}
            finally:
                _settle(taken, failures)
                del failures  # a traceback holds frames: the records must not live until that is found

    async def _send(self, taken: Mapping[asyncio.Future[None], Cargo]) -> dict[Destination, Exception]:
        """Return what went wrong, by destination."""
        # The guarantee: acks=all for each record, by the short way or the long one, or an error.
        # Nothing is acknowledged on hope.
        cargo = _joined(taken.values())
        if self._leader is not None:
            left = await self._driver.send_at_once(self._leader, cargo)
            if not left:
                return {}
            # Once more, as far as anybody still waits for it: identity makes repeats harmless.
            waited_for = _joined(cargo for future, cargo in taken.items() if not future.done())
            cargo = {destination: own for destination, own in waited_for.items() if destination in left}
        results = await asyncio.gather(
            *(self._driver.send_with_care(*item) for item in cargo.items()), return_exceptions=True
        )
        return {
            # What the driver broke off is no cancellation of whoever waits here.
            destination: result if isinstance(result, Exception) else _stopped()
            for destination, result in zip(cargo, results, strict=True)
            if result is not None
        }


def _joined(cargoes: Iterable[Cargo]) -> dict[Destination, list[Record]]:
    joined: dict[Destination, list[Record]] = {}
    for cargo in cargoes:
        for destination, records in cargo.items():
            joined.setdefault(destination, []).extend(records)
    return joined


def _settle(
    taken: Mapping[asyncio.Future[None], Cargo], failures: Mapping[Destination, Exception] | None
) -> None:
    """Tell everybody how it went; None: it was broken off."""
    for future, cargo in taken.items():
        if future.done():
            continue
        if failures is None:
            future.set_exception(_stopped())
        elif failure := next((failures[each] for each in cargo if each in failures), None):
            future.set_exception(failure)
        else:
            future.set_result(None)


def _stopped() -> ConnectionError:
    return ConnectionError("the publisher has stopped")
