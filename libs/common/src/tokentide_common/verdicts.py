"""Hears from the aggregator what became of events whose sender waits: ingest, and the proxy when embedded."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.subscriber.usecase import DefaultSubscriber

from tokentide_common.broker import Record, bootstrap_servers
from tokentide_common.errors import Unavailable
from tokentide_common.topics import VERDICTS, Verdicts

REJECTED: Final = "rejected"
"""The verdict on an event that could not be counted: it is among the dead letters."""
_decoder = msgspec.json.Decoder(Verdicts)


class Waiting:
    """One batch whose sender waits: which verdicts are in, and a signal once all of them are."""

    def __init__(self, indices: Iterable[int]) -> None:
        self._missing = set(indices)
        self._known: dict[int, str] = {}
        self._complete = asyncio.Event()

    def take(self, verdicts: Iterable[tuple[int, str]]) -> None:
        """Add verdicts; a repeat changes nothing, for the first answer is what happened to the event."""
        for index, verdict in verdicts:
            if index in self._missing:
                self._missing.discard(index)
                self._known[index] = verdict
        if not self._missing:
            self._complete.set()

    async def all_in(self, timeout_s: float) -> dict[int, str] | None:
        """Return the verdict of each event by index, or None when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._complete.wait()
        except TimeoutError:
            return None
        return self._known


class VerdictReader:
    """Reads the topic of verdicts and hands each to the batch that waits for it."""

    def __init__(self, url: str) -> None:
        self.reply_to = uuid.uuid4().hex
        self._url = url
        self._broker: KafkaBroker | None = None
        self._waiting: dict[str, Waiting] = {}

    @property
    def listening(self) -> bool:
        """Whether a verdict published from now on would be heard."""
        return self._broker is not None

    async def start(self) -> None:
        """Return once the reader has its position, so that no verdict from then on is missed.

        Raises `Unavailable` when the broker is away or does not have the topic yet.
        """
        broker = KafkaBroker(bootstrap_servers(self._url), apply_types=False, consumer_only=True, logger=None)
        subscriber = subscribe(broker, self._hear)
        try:
            await broker.start()
            consumer = subscriber.consumer
            partitions = consumer.assignment() if consumer is not None else ()
            # Fixed before the first batch is published: "latest" means from now on, not from the first fetch.
            positions = [await consumer.position(one) for one in partitions] if consumer is not None else []
        except Exception as exc:  # the driver's errors have no common root
            await broker.stop()
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc
        if not positions:
            await broker.stop()
            raise Unavailable("the broker has no topic for verdicts yet", code="broker_unavailable")
        self._broker = broker

    async def stop(self) -> None:
        """Stop reading."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.stop()

    def expect(self, batch_id: str, indices: Sequence[int]) -> Waiting:
        """Start listening for a batch; call it before its records are published, and `forget` after."""
        waiting = self._waiting[batch_id] = Waiting(indices)
        return waiting

    def forget(self, batch_id: str) -> None:
        """Stop listening for a batch: what arrives later is nobody's any more."""
        self._waiting.pop(batch_id, None)

    async def _hear(self, value: bytes) -> None:
        try:
            verdicts = _decoder.decode(value)
        except msgspec.DecodeError:
            return  # not written by an aggregator of ours: whoever waits runs into its time limit
        # Batch ids are random, so that another instance's batch is never taken for one of ours.
        waiting = self._waiting.get(verdicts.batch)
        if waiting is not None:
            waiting.take(verdicts.verdicts)


def subscribe(broker: KafkaBroker, hear: Callable[[bytes], Awaitable[None]]) -> DefaultSubscriber:
    """Subscribe to the verdicts from now on, without a group: every instance hears all of them."""
    subscriber = broker.subscriber(
        VERDICTS,
        auto_offset_reset="latest",
        decoder=_value,
        title="verdicts",
        description="what became of events whose sender waits",
    )
    subscriber(hear)
    return subscriber


async def _value(message: KafkaMessage) -> bytes:
    return bytes(message.body)


def addressed(
    records: Sequence[Record], indices: Sequence[int], reply_to: str, batch_id: str
) -> list[Record]:
    """Return the records with the headers that ask the aggregator for a verdict on each."""
    sender = [("reply-to", reply_to.encode()), ("batch", batch_id.encode())]
    return [
        Record(record.key, record.value, [*sender, ("index", b"%d" % index)])
        for record, index in zip(records, indices, strict=True)
    ]
