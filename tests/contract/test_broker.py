"""The broker's contract: publish with acknowledgement, fetch per partition, commit by hand.

On the embedded broker and on the durable one of this run.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra.brokers import Broker
from infra.topics import PARTITIONS, everything, new_topic, received
from infra.waiting import until
from tokentide_common.broker import (
    GroupConsumer,
    LostPartition,
    Publisher,
    Record,
    bootstrap_servers,
    ensure_topics,
)
from tokentide_common.errors import TooLarge
from tokentide_common.topics import TOPICS, USAGE


@pytest.fixture(params=["tansu", "durable"])
def any_broker(request: pytest.FixtureRequest) -> Broker:
    return request.getfixturevalue("tansu" if request.param == "tansu" else "shared_durable_broker")


@pytest.fixture
async def topic(any_broker: Broker) -> str:
    return await new_topic(any_broker)


@pytest.fixture
async def publisher(any_broker: Broker) -> AsyncIterator[Publisher]:
    opened = Publisher(any_broker.url, deadline_s=15)
    await opened.start()
    yield opened
    await opened.stop()


async def owning(consumer: GroupConsumer, count: int) -> None:
    """Poll until the member owns so many partitions."""

    async def owned() -> bool:
        await consumer.fetch(timeout_ms=50, max_records=1)
        return len(consumer.owned()) == count

    await until(owned, within_s=30, what=f"{count} partitions owned")


async def test_a_record_arrives_as_it_was_published(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    headers = [("reply-to", b"abc"), ("index", b"0"), ("bytes", bytes(range(256))), ("empty", b"")]
    before_ms = time.time() * 1000 - 1000
    await publisher.publish(topic, [Record(b"call-1", b'{"n": 1}', headers)])
    [record] = [r for records in (await everything(any_broker, topic, 1)).values() for r in records]
    assert (record.key, record.value, list(record.headers)) == (b"call-1", b'{"n": 1}', headers)
    assert before_ms < record.timestamp < time.time() * 1000 + 1000


async def test_records_without_key_or_value_are_carried(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    await publisher.publish(topic, [Record(None, b"no key"), Record(b"no value", None), Record(b"k", b"")])
    records = [r for part in (await everything(any_broker, topic, 3)).values() for r in part]
    assert {(r.key, r.value) for r in records} == {(None, b"no key"), (b"no value", None), (b"k", b"")}


async def test_a_key_always_meets_the_same_partition_in_order(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    second = Publisher(any_broker.url, deadline_s=15)
    try:
        for n in range(3):
            for source in (publisher, second):
                await source.publish(topic, [Record(b"call-%d" % k, b"%d" % n) for k in range(20)])
    finally:
        await second.stop()
    by_partition = await everything(any_broker, topic, 120)
    home = {r.key: partition for partition, records in by_partition.items() for r in records}
    assert sum(len({r.key for r in records}) for records in by_partition.values()) == len(home) == 20
    assert len(set(home.values())) == PARTITIONS
    for records in by_partition.values():
        assert [r.offset for r in records] == list(range(len(records)))
        for key in {r.key for r in records}:
            values = [int(r.value) for r in records if r.key == key]
            assert values == sorted(values)


async def test_partitions_of_keys_never_change_between_releases(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    """A call whose partition moved could be counted by two consumers: these numbers are a contract."""
    keys = [b"req_011CXm2fJdFvC4mVqjQJ8Zt1", b"resp_68a1", b"chatcmpl-9x", b""]
    await publisher.publish(topic, [Record(key, b"") for key in keys])
    by_partition = await everything(any_broker, topic, len(keys))
    home = {r.key: partition for partition, records in by_partition.items() for r in records}
    assert [home[key] for key in keys] == [0, 2, 3, 0]


async def test_a_batch_of_ten_thousand_records_is_acknowledged_whole(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    await publisher.publish(topic, [Record(b"k%d" % n, b"x" * 400) for n in range(10_000)])
    by_partition = await everything(any_broker, topic, 10_000)
    assert len({r.key for records in by_partition.values() for r in records}) == 10_000


async def test_many_publishers_at_once_share_one_connection(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    await asyncio.gather(*(publisher.publish(topic, [Record(b"%d" % n, b"v")]) for n in range(200)))
    by_partition = await everything(any_broker, topic, 200)
    assert len({r.key for records in by_partition.values() for r in records}) == 200


async def test_a_record_of_one_megabyte_passes_and_a_larger_one_is_refused(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    with pytest.raises(TooLarge):
        await publisher.publish(topic, [Record(b"k", b"small"), Record(b"k", b"x" * 1_000_001)])
    await publisher.publish(topic, [Record(b"k", b"x" * 1_000_000)])
    [record] = [r for records in (await everything(any_broker, topic, 1)).values() for r in records]
    assert len(record.value) == 1_000_000, "nothing of the refused batch was published"


@pytest.mark.parametrize("compression", ["gzip", "lz4", "snappy", "zstd"])
async def test_compressed_records_of_other_producers_are_read(
    any_broker: Broker, topic: str, compression: str
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers(any_broker.url), compression_type=compression, acks="all"
    )
    await producer.start()
    try:
        await asyncio.gather(*[await producer.send(topic, b"text " * 50, b"k") for _ in range(100)])
    finally:
        await producer.stop()
    records = [r for part in (await everything(any_broker, topic, 100)).values() for r in part]
    assert {r.value for r in records} == {b"text " * 50}


async def test_a_group_resumes_where_it_committed(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    await publisher.publish(topic, [Record(b"k", b"%d" % n) for n in range(10)])
    first = GroupConsumer(any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms)
    await first.start()
    try:
        [(partition, records)] = (await received(first, 10)).items()
        assert first.end_offset(partition) == 10
        await first.commit(partition, records[5].offset + 1)
    finally:
        await first.stop()
    second = GroupConsumer(any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms)
    await second.start()
    try:
        again = await received(second, 4)
        assert [int(r.value) for r in again[partition]] == [6, 7, 8, 9]
    finally:
        await second.stop()


async def test_a_paused_partition_keeps_its_owner_and_delivers_after_resume(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    consumer = GroupConsumer(
        any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms
    )
    await consumer.start()
    try:
        await owning(consumer, PARTITIONS)
        consumer.pause(range(PARTITIONS))
        await publisher.publish(topic, [Record(b"k%d" % n, b"v") for n in range(20)])
        assert await consumer.fetch(timeout_ms=500, max_records=100) == {}
        assert len(consumer.owned()) == PARTITIONS
        consumer.resume(range(PARTITIONS))
        await received(consumer, 20)
    finally:
        await consumer.stop()


async def test_seek_delivers_again_from_an_offset(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    await publisher.publish(topic, [Record(b"k", b"%d" % n) for n in range(10)])
    consumer = GroupConsumer(
        any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms
    )
    await consumer.start()
    try:
        [partition] = await received(consumer, 10)
        consumer.seek(partition, 7)
        again = await received(consumer, 3)
        assert [r.offset for r in again[partition]] == [7, 8, 9]
    finally:
        await consumer.stop()


async def test_members_share_partitions_and_inherit_those_of_a_leaver(
    any_broker: Broker, topic: str, publisher: Publisher
) -> None:
    assigned: list[set[int]] = []

    async def note(partitions: set[int]) -> None:
        assigned.append(partitions)

    one = GroupConsumer(
        any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms, on_assigned=note
    )
    two = GroupConsumer(any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms)
    await one.start()
    try:
        await owning(one, PARTITIONS)
        await two.start()
        try:
            await asyncio.gather(owning(one, PARTITIONS // 2), owning(two, PARTITIONS // 2))
            assert one.owned() | two.owned() == set(range(PARTITIONS))
            assert not one.owned() & two.owned()
        finally:
            await two.stop()
        await owning(one, PARTITIONS)
        assert assigned[-1] == set(range(PARTITIONS)), "the owner is told about what it got"
        await publisher.publish(topic, [Record(b"k%d" % n, b"v") for n in range(20)])
        await received(one, 20)
    finally:
        await one.stop()


async def test_a_commit_for_a_partition_that_moved_on_is_refused(any_broker: Broker, topic: str) -> None:
    one = GroupConsumer(any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms)
    two = GroupConsumer(any_broker.url, topic, f"group-{topic}", session_timeout_ms=any_broker.session_ms)
    await one.start()
    try:
        await owning(one, PARTITIONS)
        await two.start()
        try:
            await asyncio.gather(owning(one, PARTITIONS // 2), owning(two, PARTITIONS // 2))
            [lost, *_] = two.owned()
            with pytest.raises(LostPartition):
                await one.commit(lost, 1)
        finally:
            await two.stop()
    finally:
        await one.stop()


@pytest.mark.parametrize("embedded", [True, False])
async def test_topics_are_created_once_with_their_partitions(
    request: pytest.FixtureRequest, embedded: bool
) -> None:
    broker: Broker = request.getfixturevalue("tansu" if embedded else "shared_durable_broker")
    await ensure_topics(broker.url, embedded=embedded)
    await ensure_topics(broker.url, embedded=embedded)
    wanted = {t.name: min(t.partitions, 2) if embedded else t.partitions for t in TOPICS}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(broker.url))
    await admin.start()

    async def as_wanted() -> bool:
        # A broker knows a topic a moment before it knows all of its partitions.
        found = await admin.describe_topics(list(wanted))
        return wanted == {entry["topic"]: len(entry["partitions"]) for entry in found}

    try:
        await until(as_wanted, what=str(wanted))
    finally:
        await admin.close()


async def test_record_times_are_arrival_times_so_that_history_is_not_expired(
    shared_durable_broker: Broker,
) -> None:
    await ensure_topics(shared_durable_broker.url)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers(shared_durable_broker.url))
    await producer.start()
    try:
        sent = await producer.send_and_wait(USAGE, b"{}", key=b"old", timestamp_ms=1_577_836_800_000)
    finally:
        await producer.stop()
    assert sent.timestamp > 1_700_000_000_000
