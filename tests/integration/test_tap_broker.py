"""The tap against real brokers: away and back, forgetting, killed. At least once on the topic.

A publish that is cut off may have reached the broker, and is repeated: then an event is on the topic twice,
and its identity makes the second one count nothing. Where nothing is cut off the tests see every event once.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.brokers import Broker
from infra.fault_proxy import FaultProxy
from infra.ingest_service import everything_on
from infra.process import Process
from infra.taps import Tapped, arrived, ids, in_order, nowhere, seen, tapping
from infra.verdicts import Aggregator
from infra.waiting import until
from tokentide_common.broker import ensure_topics
from tokentide_common.limit_facts import decode_limit_fact
from tokentide_common.topics import LIMITS
from tokentide_proxy.exchange import Observer


@pytest.fixture
def killable(tmp_path) -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def holder(tmp_path, started: list[Process], url: str, *, embedded: bool, count: int) -> Process:
    log = tmp_path / "holder.log"
    mode = "embedded" if embedded else "durable"
    process = Process(
        [sys.executable, "-m", "infra.taps", url, str(tmp_path / "spool"), mode, str(count)],
        log=log,
        ready=lambda: log.exists() and "spooled" in log.read_text(),
        environment={"PYTHONPATH": "tests"},
    )
    started.append(process)
    process.start()
    return process


async def has(url: str, expected: list[str]) -> bool:
    return set(expected) <= set(await arrived(url))


async def test_events_reach_the_topic_once_in_order_and_keyed_by_their_call(tansu: Broker, tmp_path):
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        for number in range(2500):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered)
    assert sorted(await arrived(tansu.url)) == ids(*range(2500))
    assert await in_order(tansu.url)
    assert {record.key for record in await everything_on(tansu.url, "tokentide.usage")} == {
        call_id.encode() for call_id in ids(*range(2500))
    }
    assert list((tmp_path / "spool").rglob("*.events")) == []


async def test_events_that_follow_each_other_share_requests_to_the_broker(tansu: Broker, tmp_path):
    began = time.monotonic()
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        for number in range(2000):
            tapped.tap.offer(seen(number))
            await asyncio.sleep(0)  # others have their turn, the tap among them
        await until(lambda: not tapped.buffered)
    asked = tapped.value('tokentide_broker_publish_duration_seconds_count{topic="tokentide.usage"}')
    assert sorted(await arrived(tansu.url)) == ids(*range(2000))
    # One more than there are pauses in that time, and for each piece that was full.
    assert 1 <= asked <= 1 + (time.monotonic() - began) / 0.05 + 2


async def test_a_broker_that_comes_late_gets_everything(tmp_path, tansu: Broker):
    tansu.kill()
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        for number in range(100):
            tapped.tap.offer(seen(number))
        await until(lambda: tapped.spool_bytes)
        tansu.restart()
        await until(lambda: not tapped.spool_bytes)
        tapped.tap.offer(seen(100))
    assert sorted(await arrived(tansu.url)) == ids(*range(101))


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
async def test_an_outage_loses_nothing_and_keeps_the_order(
    proxied_kafka: tuple[Broker, FaultProxy], tmp_path, fault
):
    broker, proxy = proxied_kafka
    async with tapping(broker.url, tmp_path / "spool", drain_s=30) as tapped:
        tapped.tap.offer(seen(0))
        await until(lambda: not tapped.buffered)
        await until(lambda: has(broker.url, ids(0)))
        getattr(proxy, fault)()
        for number in range(1, 1000):
            tapped.tap.offer(seen(number))
        await until(lambda: tapped.spool_bytes)
        for number in range(1000, 1500):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered)
        proxy.heal()
        for number in range(1500, 2000):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered and not tapped.spool_bytes, within_s=40)
    found = await arrived(broker.url)
    assert sorted(set(found)) == ids(*range(2000))
    assert await in_order(broker.url)
    assert sum(tapped.dropped(reason) for reason in ("buffer_full", "spool_full", "disk_error")) == 0


async def test_a_killed_process_leaves_its_spool_to_the_next(tansu: Broker, tmp_path, killable):
    process = holder(tmp_path, killable, nowhere(), embedded=False, count=3000)
    process.kill()
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        for number in range(3000, 3100):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered and not tapped.spool_bytes)
    assert sorted(await arrived(tansu.url)) == ids(*range(3100))
    assert await in_order(tansu.url)


async def test_where_the_broker_forgets_events_stay_on_disk_until_they_are_stored(tansu: Broker, tmp_path):
    async with tapping(tansu.url, tmp_path / "spool", embedded=True) as tapped:
        for number in range(1500):
            tapped.tap.offer(seen(number))
        await until(lambda: has(tansu.url, ids(*range(1000))))
        assert tapped.spool_bytes, "with the broker, and not stored"
        async with Aggregator(tansu.url).running():
            await until(lambda: not tapped.spool_bytes, within_s=60)
    assert sorted(set(await arrived(tansu.url))) == ids(*range(1500))


async def test_where_the_broker_forgets_a_killed_system_sends_again_what_was_not_stored(
    tansu: Broker, tmp_path, killable
):
    await ensure_topics(tansu.url, embedded=True)
    process = holder(tmp_path, killable, tansu.url, embedded=True, count=300)
    await until(lambda: has(tansu.url, ids(*range(300))))
    process.kill()
    tansu.kill()
    tansu.restart()
    async with Aggregator(tansu.url).running():
        async with tapping(tansu.url, tmp_path / "spool", embedded=True) as tapped:
            await until(lambda: tapped.spool_bytes == 0, within_s=60)
        assert sorted(set(await arrived(tansu.url))) == ids(*range(300))


async def test_a_full_spool_does_not_lose_what_the_broker_would_take(tansu: Broker, tmp_path):
    """Embedded and nothing stored: the disk is full, the broker is not."""
    async with tapping(
        tansu.url, tmp_path / "spool", drain_s=0.1, embedded=True, proxy_spool_bytes=2**20
    ) as tapped:
        await until(lambda: tapped.tap._delivery.is_open)
        for number in range(8000):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered)
        await until(lambda: has(tansu.url, ids(7999)))
    assert tapped.dropped("spool_full") == 0


async def test_the_end_of_the_process_sends_what_waits(tansu: Broker, tmp_path):
    tapped = Tapped(tansu.url, tmp_path / "spool")
    await tapped.tap.start()
    await until(lambda: tapped.tap._delivery.is_open)
    for number in range(50):
        tapped.tap.offer(seen(number))
    await tapped.tap.stop(10)
    await tapped.publisher.stop()
    assert sorted(await arrived(tansu.url)) == ids(*range(50))


async def test_damage_on_disk_is_counted_and_all_else_arrives(tansu: Broker, tmp_path):
    async with tapping(nowhere(), tmp_path / "spool", drain_s=0.1) as tapped:
        for number in range(10):
            tapped.tap.offer(seen(number))
        await until(lambda: tapped.spool_bytes and not tapped.buffered)
    (file,) = (tmp_path / "spool").rglob("*.events")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        await until(lambda: not tapped.spool_bytes)
    assert tapped.dropped("damaged") == 1
    found = await arrived(tansu.url)
    assert len(found) == 9
    assert set(found) < set(ids(*range(10)))


def told(remaining: int, *, key: str = "key_1", account: str = "org-a", model: str = "m") -> dict[str, Any]:
    headers = [
        (b"anthropic-organization-id", account.encode()),
        (b"anthropic-ratelimit-requests-limit", b"100"),
        (b"anthropic-ratelimit-requests-remaining", b"%d" % remaining),
        (b"anthropic-ratelimit-unified-5h-utilization", b"0.%d" % remaining),
    ]
    at = datetime(2026, 11, 22, 11, tzinfo=UTC) + timedelta(seconds=100 - remaining)
    return {"headers": headers, "seen": Observer("anthropic", at, "org_1", key, model=model)}


async def limits_on(url: str) -> list[tuple[str, str, str, int | str | None]]:
    facts = [decode_limit_fact(record.value or b"") for record in await everything_on(url, LIMITS)]
    return sorted((fact.account_id, fact.kind, fact.model, fact.remaining) for fact in facts)


async def test_of_each_limit_the_latest_fact_goes_out_keyed_by_account(tansu: Broker, tmp_path):
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        for remaining in range(99, 9, -1):
            tapped.tap.offer_limits(**told(remaining))
            tapped.tap.offer_limits(**told(remaining, model="n"))
            tapped.tap.offer_limits(**told(remaining, account="b"))
        tapped.tap.offer_limits([(b"content-type", b"says nothing")], told(9)["seen"])

        async def all_there() -> bool:
            return len(await limits_on(tansu.url)) >= 5

        await until(lambda: tapped.tap._delivery.is_open)
        await until(all_there)
    assert await limits_on(tansu.url) == [
        ("b", "requests", "m", 10),
        ("b", "unified_5h", "", None),
        ("org-a", "requests", "m", 10),
        ("org-a", "requests", "n", 10),
        ("org-a", "unified_5h", "", None),
    ]
    keys = {record.key for record in await everything_on(tansu.url, LIMITS)}
    assert keys == {b"org_1:anthropic:org-a", b"org_1:anthropic:b"}


async def test_limits_told_while_the_broker_is_away_arrive_as_their_latest(tansu: Broker, tmp_path):
    tansu.kill()
    async with tapping(tansu.url, tmp_path / "spool") as tapped:
        tapped.tap.offer_limits(**told(50))
        tapped.tap.offer_limits(**told(40))
        tansu.restart()
        await until(lambda: tapped.tap._delivery.is_open)

        async def there() -> bool:
            return bool(await limits_on(tansu.url))

        await until(there)
    assert await limits_on(tansu.url) == [
        ("org-a", "requests", "m", 40),
        ("org-a", "unified_5h", "", None),
    ]
