"""The broker's contract when the broker or the network fails: bounded waiting, recovery, nothing lost."""

import time

import pytest

from infra.brokers import Broker
from infra.fault_proxy import FaultProxy
from infra.process import free_port
from infra.topics import everything, new_topic, published
from infra.waiting import until
from tokentide_common.broker import GroupConsumer, Publisher, Record
from tokentide_common.errors import Unavailable


async def test_publishing_while_the_broker_is_away_fails_within_the_deadline() -> None:
    publisher = Publisher(f"kafka://127.0.0.1:{free_port()}", deadline_s=1.0)
    await publisher.start()
    try:
        begun = time.monotonic()
        with pytest.raises(Unavailable) as away:
            await publisher.publish("topic", [Record(b"k", b"v")])
        assert time.monotonic() - begun < 2
        assert away.value.retry_after_s > 0
    finally:
        await publisher.stop()


async def test_consuming_while_the_broker_is_away_is_unavailable() -> None:
    consumer = GroupConsumer(f"kafka://127.0.0.1:{free_port()}", "topic", "group")
    with pytest.raises(Unavailable):
        await consumer.start()


async def test_a_frozen_broker_fails_publishing_within_the_deadline_and_serves_after(tansu: Broker) -> None:
    topic = await new_topic(tansu)
    publisher = Publisher(tansu.url, deadline_s=1.0)
    try:
        await publisher.publish(topic, [Record(b"k", b"before")])
        tansu.pause()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await publisher.publish(topic, [Record(b"k", b"during")])
        assert time.monotonic() - begun < 2
        tansu.resume()
        await until(lambda: published(publisher, topic, b"after"), what="publishing again")
    finally:
        await publisher.stop()


@pytest.mark.parametrize("fault", ["refuse", "reset", "blackhole"])
async def test_publishing_recovers_from_network_faults_without_a_restart(
    proxied_tansu: tuple[Broker, FaultProxy], fault: str
) -> None:
    broker, proxy = proxied_tansu
    topic = await new_topic(broker)
    publisher = Publisher(broker.url, deadline_s=1.0)
    try:
        await publisher.publish(topic, [Record(b"k", b"before")])
        getattr(proxy, fault)()
        if fault != "reset":
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await publisher.publish(topic, [Record(b"k", b"during")])
            assert time.monotonic() - begun < 2
        proxy.heal()
        await until(lambda: published(publisher, topic, b"after"), what="publishing again")
    finally:
        await publisher.stop()


async def test_a_slow_network_delays_and_loses_nothing(proxied_tansu: tuple[Broker, FaultProxy]) -> None:
    broker, proxy = proxied_tansu
    topic = await new_topic(broker)
    publisher = Publisher(broker.url, deadline_s=20)
    try:
        await publisher.start()
        proxy.delay(0.1)
        begun = time.monotonic()
        await publisher.publish(topic, [Record(b"%d" % n, b"v") for n in range(50)])
        assert time.monotonic() - begun > 0.2
        proxy.heal()
        await everything(broker, topic, 50)
    finally:
        await publisher.stop()


async def test_what_the_durable_broker_acknowledged_survives_its_crash(durable_broker: Broker) -> None:
    topic = await new_topic(durable_broker)
    publisher = Publisher(durable_broker.url, deadline_s=2.0)
    acknowledged: list[bytes] = []
    try:
        for n in range(50):
            await publisher.publish(topic, [Record(b"k%d" % n, b"%d" % n)])
            acknowledged.append(b"%d" % n)
        durable_broker.kill()
        with pytest.raises(Unavailable):
            await publisher.publish(topic, [Record(b"k", b"while away")])
        durable_broker.restart()
        await until(lambda: published(publisher, topic, b"after"), within_s=60, what="publishing again")
        records = [r for part in (await everything(durable_broker, topic, 51)).values() for r in part]
        assert {r.value for r in records} >= {*acknowledged, b"after"}
    finally:
        await publisher.stop()


async def test_the_embedded_broker_forgets_everything_when_killed(tansu: Broker) -> None:
    """Why the embedded system acknowledges only what is stored, and why tokens carry a topic's identity:
    a topic of the same name starts at offset 0 again."""
    topic = await new_topic(tansu)
    for value in (b"before", b"after"):
        publisher = Publisher(tansu.url, deadline_s=5)
        await publisher.publish(topic, [Record(b"k", value)])
        await publisher.stop()
        if value == b"before":
            tansu.restart()
            await new_topic(tansu, name=topic)
    records = [r for part in (await everything(tansu, topic, 1)).values() for r in part]
    assert [(r.offset, r.value) for r in records] == [(0, b"after")]


async def test_a_member_that_could_not_join_joins_once_the_broker_is_back(tansu: Broker) -> None:
    tansu.kill()
    consumer = GroupConsumer(tansu.url, "late", "group", session_timeout_ms=tansu.session_ms)
    with pytest.raises(Unavailable):
        await consumer.start()
    tansu.restart()
    topic = await new_topic(tansu)
    consumer.topic = topic
    await consumer.start()
    try:

        async def owned() -> bool:
            await consumer.fetch(timeout_ms=50, max_records=1)
            return bool(consumer.owned())

        await until(owned, what="partitions owned")
    finally:
        await consumer.stop()
