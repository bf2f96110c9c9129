from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.otlp_collector import RecordingCollector
from infra.tees import KEY, counted, request, tee_with, waiting
from infra.waiting import until
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_wire import Signal

MESSAGE = b"\x0a\x02\x12\x00\xfa\x01\x01x"  # a field that no collector knows goes on as well
METADATA = (
    (b"user-agent", b"OTel-OTLP-Exporter-Python/1.38.0"),
    (b"x-tokentide-key", b"tt_m_secret"),
    (b"x-tenant", b"one"),
    (b"x-tenant", b"two"),
)


@pytest.fixture
async def collector() -> AsyncIterator[RecordingCollector]:
    made = RecordingCollector()
    await made.start()
    await made.start_grpc()
    yield made
    await made.stop()


async def take_in(*_arguments: object) -> None:
    """What the receiver would do is not what is looked at here."""


@pytest.mark.parametrize("signal", ["logs", "metrics", "traces"])
async def test_a_call_goes_on_as_a_call_with_the_same_message_and_metadata(
    collector: RecordingCollector, tmp_path: Path, signal: Signal
) -> None:
    sent = request(MESSAGE, *METADATA, signal=signal, grpc=True)
    async with tee_with(tmp_path, url=collector.url, grpc_url=collector.grpc_url, headers="x-new=1") as tee:
        await tee.mirror(signal, sent, KEY)
        await until(lambda: collector.received)
    [got] = collector.received
    assert (got.transport, got.path, got.body) == ("grpc", sent.path, MESSAGE)
    assert got.header("x-tenant") == ["one", "two"]
    assert got.header("x-new") == ["1"]
    assert got.header("x-tokentide-key") == []


async def test_a_call_becomes_an_http_request_where_the_collector_has_only_that(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    async with tee_with(tmp_path, url=collector.url) as tee:
        await tee.mirror("traces", request(MESSAGE, *METADATA, signal="traces", grpc=True), KEY)
        await until(lambda: collector.received)
    [got] = collector.received
    assert (got.transport, got.path, got.body) == ("http", "/v1/traces", MESSAGE)
    assert got.header("content-type") == ["application/x-protobuf"]
    assert got.header("x-tenant") == ["one", "two"]
    assert got.header("user-agent") == ["OTel-OTLP-Exporter-Python/1.38.0"]


async def test_a_grpc_outage_loses_nothing_and_a_refusal_holds_nothing_up(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics = Metrics()
    await collector.stop()
    async with tee_with(tmp_path, grpc_url=collector.grpc_url, metrics=metrics) as tee:
        for number in range(5):
            await tee.mirror("logs", request(b"%d" % number, grpc=True), KEY)
        await until(lambda: counted(metrics, "mirror", "retried") > 1)
        collector.answers.append((3, {}, b""))
        await collector.start_grpc()
        await until(lambda: waiting(tmp_path) == [], within_s=40)
    assert collector.bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert counted(metrics, "mirror", "refused") == 1
    assert counted(metrics, "mirror", "delivered") == 4


async def test_the_collectors_status_and_message_are_the_clients(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    collector.answers.extend([(0, {"x-trailer": "1"}, b"\x0a\x02\x08\x01"), (8, {"x-trailer": "2"}, b"")])
    metrics = Metrics()
    options = {"grpc_url": collector.grpc_url, "mode": "proxy", "intake": take_in, "metrics": metrics}
    async with tee_with(tmp_path, **options) as tee:
        good = await tee.relay("logs", request(MESSAGE, grpc=True), KEY)
        bad = await tee.relay("logs", request(MESSAGE, grpc=True), KEY)
        await collector.stop()
        away = await tee.relay("logs", request(MESSAGE, grpc=True), KEY)
    assert (good.grpc_status, good.body) == (0, b"\x0a\x02\x08\x01")
    assert (b"x-trailer", b"1") in good.headers
    assert (bad.grpc_status, bad.grpc_message) == (8, "not now")
    assert (b"x-trailer", b"2") in bad.headers
    assert away.grpc_status == 14
    assert (counted(metrics, "relay", "delivered"), counted(metrics, "relay", "retried")) == (2, 1)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (400, 3), (401, 16), (503, 14), (500, 2)])
async def test_an_http_answer_becomes_the_status_of_the_call(
    collector: RecordingCollector, tmp_path: Path, status: int, code: int
) -> None:
    collector.answers.append((status, {}, b"\x0a\x02\x08\x01"))
    async with tee_with(tmp_path, url=collector.url, mode="proxy", intake=take_in) as tee:
        answer = await tee.relay("logs", request(MESSAGE, grpc=True), KEY)
    assert answer.grpc_status == code
    assert answer.body == (b"\x0a\x02\x08\x01" if code == 0 else b"")
