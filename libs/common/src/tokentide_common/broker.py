"""The broker boundary: publish, fetch, commit. With `produce.py` the only file that imports aiokafka."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from tokentide_common.errors import TooLarge, Unavailable
from tokentide_common.outbox import Outbox, Record
from tokentide_common.produce import MAX_RECORD_BYTES, Producer
from tokentide_common.topics import TOPICS

__all__ = [
    "GroupConsumer",
    "LostPartition",
    "Publisher",
    "Record",
    "Tail",
    "bootstrap_servers",
    "ensure_topics",
]

_EMBEDDED_PARTITIONS: Final = 2
_REPLICAS: Final = 3


def bootstrap_servers(url: str) -> str:
    """Return `host:port[,host:port]` of a `kafka://` URL."""
    return url.removeprefix("kafka://").rstrip("/")


async def ensure_topics(url: str, *, embedded: bool = False) -> None:
    """Create the topics that are missing, on up to three brokers each; existing ones are left as they are.

    Embedded: two partitions (one machine). Raises `Unavailable` when the broker is away.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(url), request_timeout_ms=10_000)
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        for topic in TOPICS:
            if topic.name in existing:
                continue
            partitions = min(topic.partitions, _EMBEDDED_PARTITIONS) if embedded else topic.partitions
            # Retention counts from arrival, so that backfilled history is not deleted for being old.
            settings = {"retention.ms": str(topic.retention_ms), "message.timestamp.type": "LogAppendTime"}
            new = NewTopic(
                topic.name,
                partitions,
                replicas,
                topic_configs={} if embedded else settings,
            )
            with contextlib.suppress(TopicAlreadyExistsError):  # another service was first
                await admin.create_topics([new])
    except (KafkaError, OSError, TimeoutError) as exc:
        raise Unavailable("the broker does not answer", code="broker_unavailable") from exc
    finally:
        await admin.close()


class Publisher:
    """Publishes records and waits until the broker has every one of them.

    `deadline_s` bounds a call whatever the broker does. It is safe to publish again what failed:
    the aggregator counts a call once however often it was sent.
    """

    def __init__(self, url: str, *, deadline_s: float = 2.0) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._producer: AIOKafkaProducer | None = None
        self._outbox: Outbox | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect now; a broker that is away is tried again by every `publish`."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await self._connected()

    async def stop(self) -> None:
        """Flush and disconnect, within the deadline."""
        producer, self._producer = self._producer, None
        outbox, self._outbox = self._outbox, None
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(self._deadline_s):
                if outbox is not None:
                    await outbox.flush()
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(self._deadline_s):
                if producer is not None:
                    await producer.stop()

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Return once the broker has acknowledged every record; raise `Unavailable` otherwise.

        After an error some of the records may be on the topic: publish all of them again.
        """
        if any(len(r.value or b"") > MAX_RECORD_BYTES for r in records):
            raise TooLarge("a record is over 1 MB", code="record_too_large")
        try:
            async with asyncio.timeout(self._deadline_s):
                outbox = await self._connected()
                # The guarantee: this returns when every in-sync replica has every record, or it raises.
                await outbox.send(topic, records)
        except (TimeoutError, KafkaError, OSError) as exc:
            raise Unavailable(
                "the broker does not answer", code="broker_unavailable", retry_after_s=2
            ) from exc

    async def _connected(self) -> Outbox:
        async with self._starting:
            if self._outbox is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=bootstrap_servers(self._url),
                    acks="all",
                    # Not idempotent: Tansu has no producer ids, and identity makes repeats harmless.
                    enable_idempotence=False,
                    max_batch_size=MAX_RECORD_BYTES,
                    max_request_size=2 * MAX_RECORD_BYTES,
                    request_timeout_ms=max(1000, int(self._deadline_s * 1000)),
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                except BaseException:
                    with contextlib.suppress(Exception):
                        await producer.stop()
                    raise
                self._producer, self._outbox = producer, Outbox(Producer(producer, self._deadline_s))
            return self._outbox


class LostPartition(Exception):
    """The partition belongs to another member now: drop what is in hand and start over."""


class GroupConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """A member of a consumer group over one topic, in batches per partition, committing by hand."""

    def __init__(
        self,
        url: str,
        topic: str,
        group: str,
        *,
        session_timeout_ms: int = 10_000,
        wait_ms: int = 100,
        on_assigned: Callable[[set[int]], Awaitable[None]] | None = None,
        on_revoked: Callable[[set[int]], Awaitable[None]] | None = None,
    ) -> None:
        self.topic = topic
        self._assigned, self._revoked = on_assigned, on_revoked
        self._url, self._group, self._session_timeout_ms = url, group, session_timeout_ms
        self._wait_ms = wait_ms  # so long the broker holds the answer back when nothing is new
        self._consumer = self._new_consumer()
        self._spent = False

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers(self._url),
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 4,
            max_poll_interval_ms=600_000,
            request_timeout_ms=40_000,
            fetch_max_wait_ms=self._wait_ms,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_bytes=16 << 20,
        )

    async def start(self) -> None:
        """Join the group; raises `Unavailable` when the broker is away, and may then be called again."""
        if self._spent:  # the driver's consumer cannot be started a second time
            self._consumer, self._spent = self._new_consumer(), False
        try:
            await self._consumer.start()
            self._consumer.subscribe([self.topic], listener=self)
        except (KafkaError, OSError) as exc:
            with contextlib.suppress(Exception):
                await self._consumer.stop()
            self._spent = True
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc

    async def stop(self) -> None:
        """Leave the group, so that others take over at once."""
        await self._consumer.stop()

    def owned(self) -> set[int]:
        """Return the partitions that this member owns now."""
        return {tp.partition for tp in self._consumer.assignment()}

    async def fetch(
        self, *, timeout_ms: int, max_records: int, partitions: Iterable[int] = ()
    ) -> Mapping[int, list[ConsumerRecord]]:
        """Return what has arrived, by partition, waiting at most `timeout_ms` for the first record."""
        wanted = [TopicPartition(self.topic, p) for p in partitions]
        try:
            got = await self._consumer.getmany(*wanted, timeout_ms=timeout_ms, max_records=max_records)
        except IllegalStateError as exc:
            raise LostPartition(str(exc)) from exc
        except (KafkaError, OSError) as exc:
            if type(exc) is KafkaError:
                # The driver's coordination has ended for good: no outage, and waiting would be for ever.
                raise
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc
        return {tp.partition: records for tp, records in got.items()}

    def pause(self, partitions: Iterable[int]) -> None:
        """Stop fetching from partitions, without leaving the group."""
        self._consumer.pause(*self._owned_partitions(partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch again from paused partitions."""
        self._consumer.resume(*self._owned_partitions(partitions))

    def seek(self, partition: int, offset: int) -> None:
        """Make `offset` the next one to be fetched."""
        self._consumer.seek(TopicPartition(self.topic, partition), offset)

    async def commit(self, partition: int, next_offset: int) -> None:
        """Record that everything before `next_offset` is done.

        Raises `LostPartition` when the group has moved on: a zombie's commit is refused by the broker.
        """
        position = {TopicPartition(self.topic, partition): OffsetAndMetadata(next_offset, "")}
        try:
            await self._consumer.commit(position)
        except (
            CommitFailedError,
            IllegalGenerationError,
            UnknownMemberIdError,
            RebalanceInProgressError,
        ) as exc:
            raise LostPartition(str(exc)) from exc
        except IllegalStateError as exc:
            raise LostPartition(str(exc)) from exc
        except (KafkaError, OSError) as exc:
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc

    def end_offset(self, partition: int) -> int:
        """Return the offset after the last record of a partition, as of the last fetch."""
        return int(self._consumer.highwater(TopicPartition(self.topic, partition)) or 0)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Rebalance callback of the driver."""
        if self._assigned is not None:
            await self._assigned({tp.partition for tp in assigned})

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Rebalance callback of the driver."""
        if self._revoked is not None:
            await self._revoked({tp.partition for tp in revoked})

    def _owned_partitions(self, partitions: Iterable[int]) -> list[TopicPartition]:
        owned = self._consumer.assignment()
        return [tp for p in partitions if (tp := TopicPartition(self.topic, p)) in owned]


class Tail:
    """Reads a topic of one partition without a group: every instance reads all of it from where it likes."""

    def __init__(self, url: str, topic: str) -> None:
        self._url = url
        self._partition = TopicPartition(topic, 0)
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self, *, after: int | None, back: int) -> tuple[int, int]:
        """Begin after an offset, or with the last `back` records; return the first offset, and the end's.

        An offset that is not there any more, or not yet, is none. Raises `Unavailable`.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers(self._url),
            group_id=None,
            enable_auto_commit=False,
            # A place that is gone is an error: to go on elsewhere in silence would be a gap.
            auto_offset_reset="none",
            request_timeout_ms=10_000,
        )
        try:
            async with asyncio.timeout(10):
                await consumer.start()
                consumer.assign([self._partition])
                first = (await consumer.beginning_offsets([self._partition]))[self._partition]
                end = (await consumer.end_offsets([self._partition]))[self._partition]
        except (KafkaError, OSError, TimeoutError, ValueError) as exc:
            await consumer.stop()
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc
        known = after is not None and first <= after + 1 <= end
        start = after + 1 if after is not None and known else max(first, end - back)
        consumer.seek(self._partition, start)
        self._consumer = consumer
        return int(start), int(end)

    async def fetch(self) -> list[ConsumerRecord]:
        """Return what has arrived, waiting a second for the first record. Raises `Unavailable`."""
        assert self._consumer is not None
        try:
            got = await self._consumer.getmany(self._partition, timeout_ms=1000)
            place = await self._consumer.position(self._partition)
        except (KafkaError, OSError) as exc:
            raise Unavailable("the broker does not answer", code="broker_unavailable") from exc
        end = self._consumer.highwater(self._partition)
        if end is not None and end < place:  # one in memory that has begun anew, and says nothing of it
            raise Unavailable("the broker has forgotten what was read", code="broker_unavailable")
        return list(got.get(self._partition, ()))

    async def stop(self) -> None:
        """Read no more."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
