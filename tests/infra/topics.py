"""Topics that tests make, and reading them to a known end."""

from __future__ import annotations

import uuid

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from infra.brokers import Broker
from infra.waiting import until
from tokentide_common.broker import GroupConsumer, Publisher, Record, bootstrap_servers
from tokentide_common.errors import Unavailable

PARTITIONS = 4


async def new_topic(broker: Broker, *, name: str = "") -> str:
    name = name or f"test-{uuid.uuid4().hex[:12]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(broker.url))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    finally:
        await admin.close()
    return name


async def forget_topics(broker: Broker) -> None:
    """Delete every topic, and what groups have committed of it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(broker.url))

    async def asked() -> bool:
        try:
            await admin.start()
        except KafkaError:  # a broker that was just restarted
            return False
        return True

    await until(asked, what="the broker")
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if not name.startswith("__")])
    finally:
        await admin.close()


async def received(
    consumer: GroupConsumer, count: int, *, within_s: float = 30
) -> dict[int, list[ConsumerRecord]]:
    """Fetch until `count` records have arrived, by partition."""
    got: dict[int, list[ConsumerRecord]] = {}

    async def enough() -> bool:
        for partition, records in (await consumer.fetch(timeout_ms=200, max_records=5000)).items():
            got.setdefault(partition, []).extend(records)
        return sum(map(len, got.values())) >= count

    await until(enough, within_s=within_s, what=f"{count} records")
    return got


async def everything(broker: Broker, topic: str, count: int) -> dict[int, list[ConsumerRecord]]:
    """Read a topic from its beginning, as a group of its own."""
    group = f"reader-{uuid.uuid4().hex[:8]}"
    consumer = GroupConsumer(broker.url, topic, group, session_timeout_ms=broker.session_ms)
    await consumer.start()
    try:
        return await received(consumer, count)
    finally:
        await consumer.stop()


async def published(publisher: Publisher, topic: str, value: bytes) -> bool:
    try:
        await publisher.publish(topic, [Record(b"k", value)])
    except Unavailable:
        return False
    return True


async def all_records(url: str, topic: str) -> list[ConsumerRecord]:
    """Return what is on a topic now, without a group."""
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers(url), auto_offset_reset="earliest")
    await reader.start()
    try:
        await reader.topics()
        numbers = reader.partitions_for_topic(topic) or set()
        partitions = [TopicPartition(topic, number) for number in numbers]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while any([await reader.position(tp) < ends[tp] for tp in partitions]):
            for records in (await reader.getmany(*partitions, timeout_ms=200)).values():
                found.extend(records)
        return found
    finally:
        await reader.stop()
