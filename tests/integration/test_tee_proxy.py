import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.otlp_collector import RecordingCollector
from infra.tees import KEY, counted, request, tee_with, waiting
from infra.waiting import until
from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import InvalidRequest, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_wire import Signal, WireRequest


class OwnIntake:
    """What the receiver does with a request of its own; fails first as often as it is told."""

    def __init__(self) -> None:
        self.taken: list[tuple[Signal, WireRequest, KeyRecord]] = []
        self.failures: list[Exception] = []
        self.available = True

    async def __call__(self, signal: Signal, taken: WireRequest, key: KeyRecord) -> None:
        if not self.available:
            raise Unavailable("the broker is away")
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append((signal, taken, key))


@pytest.fixture
async def collector() -> AsyncIterator[RecordingCollector]:
    made = RecordingCollector()
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"content-type": "application/x-protobuf", "x-collector": "a"}, b""),
        (200, {"content-type": "application/json"}, b'{"partialSuccess":{"rejectedLogRecords":"1"}}'),
        (200, {"content-type": "application/json", "content-encoding": "gzip"}, b"\x1f\x8bnot touched"),
        (400, {"content-type": "application/json"}, b'{"code":3,"message":"bad"}'),
        (503, {"retry-after": "7"}, b"busy"),
        (301, {"location": "http://elsewhere/"}, b""),
    ],
)
async def test_the_collectors_answer_is_the_clients_answer(
    collector: RecordingCollector, tmp_path: Path, status: int, headers: dict[str, str], body: bytes
) -> None:
    intake = OwnIntake()
    collector.answers.append((status, headers, body))
    async with tee_with(tmp_path, url=collector.url, mode="proxy", intake=intake) as tee:
        answer = await tee.relay("logs", request(b"sent", (b"x-a", b"1")), KEY)
        await until(lambda: intake.taken)
    named = {name.decode(): value.decode() for name, value in answer.headers}
    assert (answer.status, answer.body) == (status, body)
    assert headers.items() <= named.items()
    assert named["content-length"] == str(len(body))
    assert collector.bodies == [b"sent"]
    [(signal, taken, key)] = intake.taken
    assert (signal, taken.body, taken.headers, key) == ("logs", b"sent", ((b"x-a", b"1"),), KEY)
    assert waiting(tmp_path) == []


async def test_our_own_trouble_never_changes_the_answer_and_the_copy_is_taken_in_later(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics, intake = Metrics(), OwnIntake()
    intake.available = False
    options = {"url": collector.url, "mode": "proxy", "intake": intake, "metrics": metrics}
    async with tee_with(tmp_path, **options) as tee:
        answers = [await tee.relay("logs", request(b"%d" % number), KEY) for number in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        await until(lambda: counted(metrics, "aside", "retried") > 0)
        assert len(waiting(tmp_path)) == 5
    async with tee_with(tmp_path, **options):
        intake.available = True
        await until(lambda: waiting(tmp_path) == [])
    assert [taken.body for _, taken, _ in intake.taken] == [b"0", b"1", b"2", b"3", b"4"]
    assert counted(metrics, "aside", "delivered") == 5


async def test_copies_kept_aside_are_taken_in_also_when_nothing_is_forwarded_any_more(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    intake = OwnIntake()
    intake.available = False
    async with tee_with(tmp_path, url=collector.url, mode="proxy", intake=intake) as tee:
        await tee.relay("logs", request(b"left"), KEY)
    intake.available = True
    async with tee_with(tmp_path, intake=intake) as tee:
        assert tee.mode == "off"
        await until(lambda: waiting(tmp_path) == [])
    assert [taken.body for _, taken, _ in intake.taken] == [b"left"]


async def test_a_copy_that_can_never_be_read_is_counted_and_holds_nothing_up(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    metrics, intake = Metrics(), OwnIntake()
    intake.failures = [InvalidRequest("not protobuf", code="malformed_body"), ZeroDivisionError()]
    options = {"url": collector.url, "mode": "proxy", "intake": intake, "metrics": metrics}
    async with tee_with(tmp_path, **options) as tee:
        for number in range(3):
            await tee.relay("logs", request(b"%d" % number), KEY)
        await until(lambda: intake.taken)
    assert [taken.body for _, taken, _ in intake.taken] == [b"2"]
    assert counted(metrics, "aside", "refused") == 2


async def test_a_collector_that_is_away_is_unavailable_and_our_copy_is_taken_all_the_same(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    await collector.stop()
    metrics, intake = Metrics(), OwnIntake()
    async with tee_with(tmp_path, url=collector.url, mode="proxy", intake=intake, metrics=metrics) as tee:
        with pytest.raises(Unavailable) as caught:
            await tee.relay("logs", request(), KEY)
        await until(lambda: intake.taken)
    assert caught.value.stable_code == "collector_unavailable"
    assert caught.value.retry_after_s >= 1
    assert counted(metrics, "relay", "retried") == 1


async def test_without_room_on_disk_the_copy_is_taken_in_at_once(
    collector: RecordingCollector, tmp_path: Path
) -> None:
    (tmp_path / "aside").write_text("a file where the folder should be")
    intake = OwnIntake()
    intake.failures = [ZeroDivisionError()]
    async with tee_with(tmp_path, url=collector.url, mode="proxy", intake=intake) as tee:
        assert (await tee.relay("logs", request(b"unlucky"), KEY)).status == 200
        assert (await tee.relay("logs", request(b"x"), KEY)).status == 200
        assert [taken.body for _, taken, _ in intake.taken] == [b"x"]


async def test_a_connection_that_the_collector_closed_meanwhile_costs_no_answer(tmp_path: Path) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"body")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await reader.read(1)  # the next request arrives, and gets nothing
        writer.transport.abort()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with tee_with(tmp_path, url=url, mode="proxy", intake=OwnIntake()) as tee:
        for _ in range(3):
            assert (await tee.relay("logs", request(), KEY)).status == 200
    server.close()
