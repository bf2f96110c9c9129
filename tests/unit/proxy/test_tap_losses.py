"""With no broker there: what the tap keeps, what it drops, and how loudly."""

import asyncio
import inspect
import json
from io import StringIO

import pytest
import structlog

from infra.taps import Tapped, ids, nowhere, seen, tapping
from infra.waiting import until
from tokentide_common import logging
from tokentide_common.metrics import Metrics
from tokentide_proxy.drops import Drops
from tokentide_proxy.spool_log import SegmentLog
from tokentide_proxy.tap import Tap


def spooled(folder) -> list[str]:
    log = SegmentLog(folder, 2**30, lambda _bytes: None)
    log.open()
    found = []
    while some := log.read(1000):
        found += [json.loads(record.value)["call_id"] for record in some]
        log.remove()
    log.close()
    return found


@pytest.fixture
def lines():
    stream = StringIO()
    logging.configure("json", stream=stream)
    yield lambda name: [
        line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == name
    ]
    structlog.reset_defaults()


def test_offering_cannot_wait():
    for offer in (Tap.offer, Tap.offer_limits):
        assert not inspect.iscoroutinefunction(offer)
        assert inspect.signature(offer).return_annotation == "None"


async def test_what_is_offered_before_the_start_and_without_a_broker_is_spooled_in_order(tmp_path):
    tapped = Tapped(nowhere(), tmp_path)
    for number in range(700):
        tapped.tap.offer(seen(number))
    await tapped.tap.start()
    await until(lambda: tapped.spool_bytes and not tapped.buffered)
    for number in range(700, 900):
        tapped.tap.offer(seen(number))
    await tapped.tap.stop(0.1)
    assert spooled(tmp_path) == ids(*range(900))


async def test_what_an_earlier_process_left_waits_for_the_broker_in_silence(tmp_path, lines):
    async with tapping(nowhere(), tmp_path, drain_s=0.1) as tapped:
        tapped.tap.offer(seen(1))
        await until(lambda: tapped.spool_bytes and not tapped.buffered)
    async with tapping(nowhere(), tmp_path, drain_s=0.1):
        await until(lambda: lines("waiting_for_outage_to_end"))
    # That the topics cannot be reached is said; the spool has nothing to add to it.
    assert {line["stage"] for line in lines("waiting_for_outage_to_end")} == {"topics"}
    assert spooled(tmp_path) == ids(1)


async def test_what_has_no_room_in_memory_is_dropped_and_counted(tmp_path):
    tapped = Tapped(nowhere(), tmp_path, proxy_buffer_events=100)
    for number in range(130):
        tapped.tap.offer(seen(number))
    assert (tapped.buffered, tapped.dropped("buffer_full")) == (100, 30)
    await tapped.tap.start()
    await tapped.tap.stop(0.1)
    assert spooled(tmp_path) == ids(*range(100))


async def test_what_has_no_room_on_disk_is_dropped_counted_and_told_at_once_and_not_each_time(
    tmp_path, lines
):
    async with tapping(nowhere(), tmp_path, drain_s=0.1, proxy_spool_bytes=2**20) as tapped:
        for number in range(15_000):
            tapped.tap.offer(seen(number))
        await until(lambda: tapped.dropped("spool_full"), within_s=60)
        for number in range(15_000, 15_100):
            tapped.tap.offer(seen(number))
        await until(lambda: not tapped.buffered)
        alarms = lines("usage_events_dropped")
        assert [(alarm["level"], alarm["spool_full"] > 0) for alarm in alarms] == [("error", True)]
    kept = spooled(tmp_path)
    assert kept == ids(*range(len(kept))), "the oldest stay, without a gap"
    assert len(kept) + tapped.dropped("spool_full") == 15_100
    assert sum(alarm["spool_full"] for alarm in lines("usage_events_dropped")) == tapped.dropped("spool_full")


async def test_an_alarm_is_raised_at_once_and_then_no_more_often_than_agreed(lines):
    drops = Drops(Metrics(), alarm_every_s=0.2)
    for _ in range(3):
        drops.count("buffer_full", 2)
    await until(lambda: lines("usage_events_dropped"))
    drops.count("disk_error")
    drops.count("buffer_full")
    assert len(lines("usage_events_dropped")) == 1
    await until(lambda: len(lines("usage_events_dropped")) == 2)
    first, second = lines("usage_events_dropped")
    assert first["buffer_full"] == 6
    assert (second["buffer_full"], second["disk_error"]) == (1, 1)
    drops.close()


async def test_an_unusable_disk_costs_events_and_nothing_else(tmp_path, lines):
    (tmp_path / "spool").write_text("a file is in the way")
    async with tapping(nowhere(), tmp_path / "spool", drain_s=0.1) as tapped:
        tapped.tap.offer(seen(0))
        await until(lambda: tapped.dropped("disk_error") == 1)
        (tmp_path / "spool").unlink()
        tapped.tap.offer(seen(1))
        await until(lambda: tapped.spool_bytes)
    assert len(lines("proxy_spool_unavailable")) == 1
    assert spooled(tmp_path / "spool") == ids(1)


async def test_what_cannot_be_encoded_or_is_far_too_large_is_dropped_and_the_next_is_not(tmp_path):
    tapped = Tapped(nowhere(), tmp_path)
    broken, large = seen(1), seen(2)
    broken.tags = {"a": object()}  # type: ignore[dict-item]  # the mistake that is tried
    large.project = "x" * 70_000
    for event in (seen(0), broken, large, seen(3)):
        tapped.tap.offer(event)
    assert (tapped.buffered, tapped.dropped("invalid")) == (2, 2)
    await tapped.tap.stop(0.1)
    assert spooled(tmp_path) == ids(0, 3)


async def test_tags_beyond_the_bound_are_left_out_of_events_that_are_kept(tmp_path):
    tapped = Tapped(nowhere(), tmp_path, tag_values=2)
    for number in range(4):
        event = seen(number)
        event.tags = {"run": f"{number}", "env": "prod"}
        tapped.tap.offer(event)
    await tapped.tap.stop(0.1)
    log = SegmentLog(tmp_path, 2**30, lambda _bytes: None)
    log.open()
    tags = [json.loads(record.value)["tags"] for record in log.read(10)]
    log.close()
    assert [said.get("run") for said in tags] == ["0", "1", None, None]
    assert {said["env"] for said in tags} == {"prod"}


async def test_what_comes_after_the_end_is_counted(tmp_path):
    async with tapping(nowhere(), tmp_path, drain_s=0.1) as tapped:
        pass
    tapped.tap.offer(seen(0))
    assert tapped.dropped("stopped") == 1


async def test_a_stop_keeps_to_its_time_and_leaves_nothing_running(tmp_path):
    before = asyncio.all_tasks()
    tapped = Tapped(nowhere(), tmp_path)
    await tapped.tap.start()
    tapped.tap.offer(seen(0))
    async with asyncio.timeout(5):
        await tapped.tap.stop(0.2)
    assert asyncio.all_tasks() == before
    assert spooled(tmp_path) == ids(0)
