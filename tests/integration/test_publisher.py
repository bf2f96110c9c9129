import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from infra.brokers import Broker
from infra.ingest_service import everything_on
from infra.waiting import until
from tokentide_common.broker import Publisher, Record, bootstrap_servers, ensure_topics
from tokentide_common.errors import TooLarge, Unavailable
from tokentide_common.outbox import partition_of
from tokentide_common.produce import Producer
from tokentide_common.topics import PERIODS, USAGE


async def test_records_arrive_whole_in_order_per_key_and_keep_their_partition(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url)
    rounds = [[Record(b"key_%d" % key, b"%d" % n) for key in range(40)] for n in range(25)]
    await asyncio.gather(*(publisher.publish(USAGE, records) for records in rounds))
    await publisher.stop()
    found = await everything_on(tansu.url, USAGE)
    assert len(found) == 1000
    for key in {record.key for record in found}:
        mine = [record for record in found if record.key == key]
        assert {record.partition for record in mine} == {partition_of(key, 12)}
        assert [record.value for record in mine] == [b"%d" % n for n in range(25)]


async def test_more_than_fits_into_one_batch_is_sent_in_several(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url, deadline_s=10)
    records = [Record(b"key", b"%05d" % n + bytes(100_000)) for n in range(50)]
    await publisher.publish(PERIODS, records)
    await publisher.stop()
    assert [record.value[:5] for record in await everything_on(tansu.url, PERIODS)] == [
        b"%05d" % n for n in range(50)
    ]


async def test_headers_and_records_without_a_key_go_through(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url)
    await publisher.publish(USAGE, [Record(None, b"value", [("name", b"said")]), Record(b"gone", None)])
    await publisher.stop()
    found = {(record.key, record.value, record.headers) for record in await everything_on(tansu.url, USAGE)}
    assert found == {(None, b"value", (("name", b"said"),)), (b"gone", None, ())}


async def test_what_went_to_a_broker_that_does_not_lead_arrives_by_the_drivers_way(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    destination = (USAGE, 3)
    records = [Record(b"a", b"1", [("name", b"said")]), Record(b"b", None), Record(None, b"3")]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers(tansu.url)) as driver:
        producer = Producer(driver, deadline_s=2.0)
        assert await producer.partitions_of(USAGE) == 12
        assert await producer.send_at_once(999, {destination: records}) == {destination}
        await producer.send_with_care(destination, records)
        leader = producer.leader_of(destination)
        assert leader is not None
        assert await producer.send_at_once(leader, {destination: records}) == set()
    found = await everything_on(tansu.url, USAGE)
    assert [(r.partition, r.key, r.value, r.headers) for r in found] == 2 * [
        (3, b"a", b"1", (("name", b"said"),)),
        (3, b"b", None, ()),
        (3, None, b"3", ()),
    ]


async def test_a_record_over_the_bound_is_refused_and_its_neighbours_with_it(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url)
    with pytest.raises(TooLarge):
        await publisher.publish(USAGE, [Record(b"a", b"fine"), Record(b"b", bytes(2**20 + 1))])
    await publisher.stop()
    assert await everything_on(tansu.url, USAGE) == []


async def test_nothing_published_while_the_broker_is_away_piles_up(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url, deadline_s=0.5)
    await publisher.publish(USAGE, [Record(b"before", b"")])
    tansu.pause()
    try:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await publisher.publish(USAGE, [Record(b"during", bytes(1000))] * 100)
    finally:
        tansu.resume()

    async def published() -> bool:
        try:
            await publisher.publish(USAGE, [Record(b"after", b"")])
        except Unavailable:
            return False
        return True

    await until(published)
    await publisher.stop()
    during = [record for record in await everything_on(tansu.url, USAGE) if record.key == b"during"]
    assert len(during) <= 200, "one round may have been on its way, and one queued; the rest was dropped"


async def test_stopping_sends_what_is_under_way(tansu: Broker) -> None:
    await ensure_topics(tansu.url)
    publisher = Publisher(tansu.url)
    await publisher.start()
    task = asyncio.create_task(publisher.publish(USAGE, [Record(b"last", b"")]))
    await asyncio.sleep(0)
    await publisher.stop()
    await task
    assert [record.key for record in await everything_on(tansu.url, USAGE)] == [b"last"]
