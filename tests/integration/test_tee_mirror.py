import asyncio
import gzip
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra import tee_process
from infra.otlp_collector import RecordingCollector
from infra.process import Process
from infra.tees import KEY, counted, request, tee_with, waiting
from infra.waiting import until
from tokentide_common.accounts import KeyRecord
from tokentide_common.keys import mint_key
from tokentide_common.metrics import Metrics

CANARY = b"Canary-5c1e what the person typed"
OWN_KEY = mint_key("m")[0].encode()


@pytest.fixture
async def collector() -> AsyncIterator[RecordingCollector]:
    made = RecordingCollector()
    await made.start()
    yield made
    await made.stop()


async def test_a_copy_arrives_byte_for_byte_with_the_clients_headers(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    body = gzip.compress(b"\x0a\x05\xff\xfe\x00 not even protobuf")
    sent = request(
        body,
        (b"host", b"localhost:4318"),
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/x-protobuf"),
        (b"content-encoding", b"gzip"),
        (b"user-agent", b"OTel-OTLP-Exporter-JavaScript/0.205.0"),
        (b"authorization", b"Bearer " + OWN_KEY),
        (b"x-tokentide-key", OWN_KEY),
        (b"x-tenant", b"one"),
        (b"x-tenant", b"two"),
        (b"cookie", b"session=1"),
        query="env=a%20b",
    )
    rules = {"headers": "authorization=Basic%20Y29tcGFueQ==", "drop_headers": ("cookie",)}
    async with tee_with(tmp_path, url=collector.url, **rules) as tee:
        await tee.mirror("logs", sent, KEY)
        await until(lambda: collector.received, what="the copy arrives")
    [got] = collector.received
    assert got.body == body
    assert got.path == "/v1/logs?env=a%20b"
    assert got.header("host") == [f"127.0.0.1:{collector.port}"]
    assert sorted(name_value for name_value in got.headers if name_value[0] != "host") == [
        ("authorization", "Basic Y29tcGFueQ=="),
        ("content-encoding", "gzip"),
        ("content-length", str(len(body))),
        ("content-type", "application/x-protobuf"),
        ("user-agent", "OTel-OTLP-Exporter-JavaScript/0.205.0"),
        ("x-tenant", "one"),
        ("x-tenant", "two"),
    ]
    assert waiting(tmp_path) == []


async def test_the_clients_own_credentials_for_the_collector_are_kept(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    async with tee_with(tmp_path, url=collector.url) as tee:
        sent = request(b"x", (b"x-tokentide-key", OWN_KEY), (b"authorization", b"Bearer the-companys-own"))
        await tee.mirror("logs", sent, KEY)
        await until(lambda: collector.received)
    assert collector.received[0].header("authorization") == ["Bearer the-companys-own"]
    assert collector.received[0].header("x-tokentide-key") == []


async def test_an_outage_delays_nobody_and_loses_nothing(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    await collector.stop()
    sent = [b"%d" % number for number in range(200)]
    async with tee_with(tmp_path, metrics=metrics, url=collector.url) as tee:
        for body in sent:
            # Returns with the collector away: what it waits for is our own disk.
            await tee.mirror("logs", request(body), KEY)
        await until(lambda: counted(metrics, "mirror", "retried") > 1, what="it is tried again")
        assert len(waiting(tmp_path)) == len(sent)
        await collector.start()
        await until(lambda: len(collector.received) >= len(sent), what="all of it arrives")
        await until(lambda: counted(metrics, "mirror", "delivered") == len(sent))
    assert collector.bodies == sent
    assert waiting(tmp_path) == []


async def test_a_collector_that_accepts_connections_and_says_nothing_is_an_outage_too(tmp_path: Path) -> None:
    metrics = Metrics()
    silent = socket.create_server(("127.0.0.1", 0))  # the system accepts for it, and it never looks
    port = silent.getsockname()[1]
    async with tee_with(tmp_path, metrics=metrics, url=f"http://127.0.0.1:{port}", timeout_s=0.05) as tee:
        await tee.mirror("logs", request(), KEY)
        await until(lambda: counted(metrics, "mirror", "retried") > 1)
        assert len(waiting(tmp_path)) == 1
    silent.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_retryable_answer_is_followed_by_the_same_bytes(
    collector: RecordingCollector, tmp_path: Path, status: int
) -> None:
    collector.answers.extend([(status, {}, b"busy")] * 2)
    async with tee_with(tmp_path, url=collector.url) as tee:
        await tee.mirror("logs", request(b"first"), KEY)
        await tee.mirror("logs", request(b"second"), KEY)
        await until(lambda: len(collector.received) == 4)
    assert collector.bodies == [b"first", b"first", b"first", b"second"]


async def test_a_refusal_for_good_is_dropped_counted_and_holds_nothing_up(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    collector.answers.append((400, {}, b"no"))
    with capture_logs() as logs:
        async with tee_with(tmp_path, metrics=metrics, url=collector.url) as tee:
            await tee.mirror("logs", request(b"first"), KEY)
            await tee.mirror("logs", request(b"second"), KEY)
            await until(lambda: counted(metrics, "mirror", "delivered") == 1)
    assert collector.bodies == [b"first", b"second"]
    assert counted(metrics, "mirror", "refused") == 1
    assert [(log["outcome"], log["detail"]) for log in logs] == [("refused", "HTTP 400")]


async def test_a_signal_whose_collector_is_away_holds_no_other_up(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    away = {"logs_url": "http://127.0.0.1:1/v1/logs"}
    async with tee_with(tmp_path, url=collector.url, **away) as tee:
        await tee.mirror("logs", request(b"logs"), KEY)
        await tee.mirror("traces", request(b"traces", signal="traces"), KEY)
        await until(lambda: collector.received)
        assert [(got.path, got.body) for got in collector.received] == [("/v1/traces", b"traces")]
        assert len(waiting(tmp_path)) == 1


async def test_each_senders_requests_arrive_in_order(collector: RecordingCollector, tmp_path: Path) -> None:
    keys = [KeyRecord(key_id=f"key_{number}", org_id="org_1", kind="m") for number in range(20)]
    collector.answers.extend([(503, {}, b"")] * 20)
    async with tee_with(tmp_path, url=collector.url) as tee:
        for number in range(10):
            sends = [tee.mirror("logs", request(f"{key.key_id} {number}".encode()), key) for key in keys]
            await asyncio.gather(*sends)
        await until(lambda: waiting(tmp_path) == [])
    for key in keys:
        name = f"{key.key_id} ".encode()
        first_seen = list(dict.fromkeys(body for body in collector.bodies if body.startswith(name)))
        assert first_seen == [name + b"%d" % number for number in range(10)]


async def test_a_full_queue_drops_the_oldest_counts_it_and_says_so(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    await collector.stop()
    with capture_logs() as logs:
        async with tee_with(tmp_path, metrics=metrics, url=collector.url, queue_bytes=64 * 1024) as tee:
            for number in range(20):
                await tee.mirror("logs", request(b"%d" % number), KEY)
            assert counted(metrics, "mirror", "queue_full") == 4
            assert b'forward_queue_bytes{queue="mirror"} 65536.0' in metrics.render()
            assert b'forward_queue_requests{queue="mirror"} 16.0' in metrics.render()
            await collector.start()
            await until(lambda: waiting(tmp_path) == [])
    assert list(dict.fromkeys(collector.bodies)) == [b"%d" % number for number in range(4, 20)]
    assert "queue_full" in {log.get("outcome") for log in logs}


async def test_what_is_too_old_is_dropped_and_counted(collector: RecordingCollector, tmp_path: Path) -> None:
    metrics = Metrics()
    async with tee_with(tmp_path, metrics=metrics, url=collector.url, max_age_s=1e-6) as tee:
        await tee.mirror("logs", request(), KEY)
        await until(lambda: counted(metrics, "mirror", "too_old") == 1)
    assert collector.received == []


async def test_a_disk_that_takes_nothing_harms_no_answer(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    (tmp_path / "mirror").write_text("a file where the folder should be")
    async with tee_with(tmp_path, metrics=metrics, url=collector.url) as tee:
        await tee.mirror("logs", request(b"lost"), KEY)
        assert counted(metrics, "mirror", "disk_error") == 1
        (tmp_path / "mirror").unlink()
        await tee.mirror("logs", request(b"kept"), KEY)
        await until(lambda: collector.bodies == [b"kept"], what="it recovers by itself")


async def test_damage_on_disk_is_counted_and_passed_over(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    await collector.stop()
    async with tee_with(tmp_path, url=collector.url) as tee:
        await tee.mirror("logs", request(b"damaged"), KEY)
        await tee.mirror("logs", request(b"whole"), KEY)
    waiting(tmp_path)[0].write_bytes(b"\x00" * 40)
    await collector.start()
    async with tee_with(tmp_path, metrics=metrics, url=collector.url):
        await until(lambda: collector.bodies == [b"whole"])
    assert counted(metrics, "mirror", "damaged") == 1


async def test_a_stop_and_a_start_lose_nothing_and_new_credentials_apply_to_what_waited(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    await collector.stop()
    async with tee_with(tmp_path, url=collector.url, headers="x-token=old") as tee:
        await tee.mirror("logs", request(b"waits"), KEY)
    await collector.start()
    async with tee_with(tmp_path, url=collector.url, headers="x-token=new"):
        await until(lambda: collector.received)
    assert [(got.body, got.header("x-token")) for got in collector.received] == [(b"waits", ["new"])]


async def test_copies_left_by_a_mirror_reach_the_collector_after_a_change_to_proxy(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    await collector.stop()
    async with tee_with(tmp_path, url=collector.url) as tee:
        await tee.mirror("logs", request(b"left"), KEY)
    with capture_logs() as logs:
        async with tee_with(tmp_path):
            assert len(waiting(tmp_path)) == 1, "with no address it stays"
    assert [log["event"] for log in logs] == ["forward_queue_has_nowhere_to_go"]
    await collector.start()
    async with tee_with(tmp_path, url=collector.url, mode="proxy"):
        await until(lambda: collector.bodies == [b"left"])


async def test_without_a_collector_nothing_is_opened(tmp_path: Path) -> None:
    async with tee_with(tmp_path / "queue") as tee:
        assert not tee.wants("logs", grpc=True)
    assert not (tmp_path / "queue").exists()


@pytest.mark.parametrize("away", [True, False], ids=["collector away", "amid delivery"])
async def test_whatever_was_queued_when_the_process_was_killed_goes_out_after_a_restart(
    collector: RecordingCollector, tmp_path: Path, away: bool
) -> None:
    log = tmp_path / "output.txt"

    def promised() -> int:
        return sum(line.isdigit() for line in log.read_bytes().splitlines())

    command = [sys.executable, tee_process.__file__, str(tmp_path / "queue"), collector.url, "100000"]
    writing = Process(command, log=log, ready=lambda: promised() > 300)
    if away:
        await collector.stop()
    await asyncio.to_thread(writing.start)
    writing.kill()  # in the middle of its writing
    if away:
        await collector.start()
    async with tee_with(tmp_path / "queue", url=collector.url):
        await until(lambda: waiting(tmp_path) == [], what="the queue is empty")
    numbers = list(dict.fromkeys(int(body.split()[1]) for body in collector.bodies))
    assert numbers == list(range(len(numbers)))
    # One more may have been on disk before its number was printed.
    assert len(numbers) in (promised(), promised() + 1)
    # What was under way when it was killed may have arrived twice.
    assert len(collector.bodies) <= len(numbers) + 1


async def test_names_logs_and_metrics_of_the_queue_hold_no_content_and_no_keys(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    await collector.stop()
    secret = b"Bearer the-companys-own"
    with capture_logs() as logs:
        async with tee_with(tmp_path, metrics=metrics, url=collector.url, queue_bytes=64 * 1024) as tee:
            for _ in range(20):
                sent = request(CANARY, (b"authorization", secret), (b"x-tokentide-key", OWN_KEY))
                await tee.mirror("logs", sent, KEY)
            await until(lambda: counted(metrics, "mirror", "retried") > 0)
            files = waiting(tmp_path)
            said = json.dumps(logs, default=str).encode() + metrics.render()
            said += b"".join(str(path).encode() for path in tmp_path.rglob("*"))
            assert CANARY not in said
            assert secret not in said
            assert OWN_KEY not in said + b"".join(path.read_bytes() for path in files)
            assert CANARY in files[0].read_bytes(), "the copy itself is whole"
            await collector.start()
            await until(lambda: waiting(tmp_path) == [])
