"""The two ways to a broker: what the short one does not confirm goes the long one, and nobody hears of it."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from tokentide_common.outbox import Cargo, Destination, Outbox, Record, partition_of


class Brokers:
    """Two brokers, who lead half of the partitions each; some of these are led by nobody, or not by them."""

    def __init__(self) -> None:
        self.unled: set[Destination] = set()
        self.refused: set[Destination] = set()
        self.failing: set[Destination] = set()
        self.failure: BaseException = OSError("nobody leads it")
        self.at_once: list[tuple[int, dict[Destination, list[Record]]]] = []
        self.with_care: list[tuple[Destination, list[Record]]] = []
        self.mistake: Exception | None = None
        self.opened = asyncio.Event()
        self.opened.set()

    async def partitions_of(self, topic: str) -> int:
        return 4

    def leader_of(self, destination: Destination) -> int | None:
        return None if destination in self.unled else destination[1] % 2

    async def send_at_once(self, leader: int, cargo: Cargo) -> Collection[Destination]:
        self.at_once.append((leader, {to: list(records) for to, records in cargo.items()}))
        if self.mistake is not None:
            raise self.mistake
        await self.opened.wait()
        return {destination for destination in cargo if destination in self.refused}

    async def send_with_care(self, destination: Destination, records: Sequence[Record]) -> None:
        self.with_care.append((destination, list(records)))
        if destination in self.failing:
            raise self.failure


_BY_PARTITION = {
    partition: next(
        Record(key, b"value") for n in range(99) if partition_of(key := b"%d" % n, 4) == partition
    )
    for partition in range(4)
}
_ALL = [*_BY_PARTITION.values()]


async def under_way(outbox: Outbox, brokers: Brokers) -> asyncio.Task[None]:
    """Send a record, and return when its request is at a broker that does not answer until it is opened."""
    brokers.opened.clear()
    sent = asyncio.create_task(outbox.send("t", [_BY_PARTITION[0]]))
    while not brokers.at_once:
        await asyncio.sleep(0)
    return sent


async def test_each_broker_gets_one_request_with_what_it_leads() -> None:
    brokers = Brokers()
    await Outbox(brokers).send("t", _ALL)
    assert sorted(brokers.at_once, key=lambda sent: sent[0]) == [
        (0, {("t", 0): [_BY_PARTITION[0]], ("t", 2): [_BY_PARTITION[2]]}),
        (1, {("t", 1): [_BY_PARTITION[1]], ("t", 3): [_BY_PARTITION[3]]}),
    ]
    assert brokers.with_care == []


async def test_what_a_broker_does_not_confirm_is_sent_with_care_and_nothing_else_is() -> None:
    brokers = Brokers()
    brokers.refused = {("t", 2)}
    await Outbox(brokers).send("t", _ALL)
    assert brokers.with_care == [(("t", 2), [_BY_PARTITION[2]])]


async def test_what_nobody_leads_is_sent_with_care_and_holds_nobody_up() -> None:
    brokers = Brokers()
    brokers.unled = {("t", 3)}
    await Outbox(brokers).send("t", _ALL)
    assert brokers.with_care == [(("t", 3), [_BY_PARTITION[3]])]
    assert len(brokers.at_once) == 2


async def test_a_partition_that_fails_is_told_to_those_alone_who_sent_to_it() -> None:
    brokers = Brokers()
    brokers.refused = brokers.failing = {("t", 2)}
    outbox = Outbox(brokers)
    results = await asyncio.gather(
        outbox.send("t", [_BY_PARTITION[0]]), outbox.send("t", _ALL), return_exceptions=True
    )
    assert results[0] is None
    assert isinstance(results[1], OSError)


async def test_what_is_sent_meanwhile_goes_together_and_of_who_gave_up_nothing() -> None:
    brokers = Brokers()
    outbox = Outbox(brokers)
    first = await under_way(outbox, brokers)
    more = [Record(_BY_PARTITION[0].key, b"%d" % n) for n in range(3)]
    waiting = [asyncio.create_task(outbox.send("t", [record])) for record in more]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    brokers.opened.set()
    await asyncio.gather(first, waiting[0], waiting[2])
    assert brokers.at_once == [
        (0, {("t", 0): [_BY_PARTITION[0]]}),
        (0, {("t", 0): [more[0], more[2]]}),
    ]


async def test_what_nobody_waits_for_any_more_is_not_sent_again() -> None:
    brokers = Brokers()
    brokers.refused = {("t", 0)}
    outbox = Outbox(brokers)
    sent = await under_way(outbox, brokers)
    sent.cancel()
    await asyncio.wait([sent])
    brokers.opened.set()
    await outbox.flush()
    assert brokers.with_care == []


async def test_who_waits_when_all_is_broken_off_is_told() -> None:
    brokers = Brokers()
    outbox = Outbox(brokers)
    sent = await under_way(outbox, brokers)
    flush = asyncio.create_task(outbox.flush())
    await asyncio.sleep(0)
    flush.cancel()
    with pytest.raises(ConnectionError):
        await sent


async def test_what_the_driver_breaks_off_cancels_nobody() -> None:
    brokers = Brokers()
    brokers.refused = brokers.failing = {("t", 0)}
    brokers.failure = asyncio.CancelledError()
    with pytest.raises(ConnectionError):
        await Outbox(brokers).send("t", [_BY_PARTITION[0]])


async def test_a_mistake_in_one_round_is_told_and_does_not_end_the_rounds() -> None:
    brokers = Brokers()
    brokers.mistake = ValueError("a mistake of ours")
    outbox = Outbox(brokers)
    record = [_BY_PARTITION[0]]
    first = asyncio.create_task(outbox.send("t", record))
    await asyncio.sleep(0)
    results = await asyncio.gather(first, outbox.send("t", record), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    brokers.mistake = None
    await outbox.send("t", record)
