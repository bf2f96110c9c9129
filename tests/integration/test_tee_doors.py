"""The whole way: a client's request through the receiver's doors to a collector behind it."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest

from infra.brokers import Broker
from infra.ingest_service import Ingest, everything_on, ingest_service, ready
from infra.otlp_collector import RecordingCollector
from infra.process import free_port
from infra.tees import waiting
from infra.telemetry import payloads
from infra.waiting import until
from tokentide_common.topics import USAGE

OF_ONE_CONNECTION = {"host", "connection", "content-length", "transfer-encoding", "date", "keep-alive"}
JSON_RUN = payloads("01-basic-json")
PROTOBUF_RUN = payloads("02-bash-protobuf-prompts")
# Made without the time, which would be a part of the test's name.
NOTHING = gzip.compress(b"{}", mtime=0)


@pytest.fixture
async def collector() -> AsyncIterator[RecordingCollector]:
    made = RecordingCollector()
    await made.start()
    await made.start_grpc()
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def teed(broker: Broker, folder: Path, url: str, **options: Any) -> AsyncIterator[Ingest]:
    named = {f"otlp_forward_{name}": value for name, value in options.items()}
    named |= {"otlp_forward_url": url, "otlp_forward_queue_dir": str(folder / "queue")}
    ports = {"otlp_grpc_port": named.pop("otlp_forward_port", 0)}
    async with ingest_service(broker.url, folder, **named, **ports) as service:
        await ready(service)
        yield service


def end_to_end(headers: httpx.Headers) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in headers.multi_items() if name not in OF_ONE_CONNECTION)


@pytest.mark.parametrize("mode", ["mirror", "proxy"])
@pytest.mark.parametrize("run", [JSON_RUN, PROTOBUF_RUN], ids=["json", "protobuf"])
@pytest.mark.parametrize("compressed", [False, True])
async def test_what_a_real_client_sent_reaches_the_collector_unchanged_and_is_counted(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path, run: Any, mode: str, compressed: bool
) -> None:
    sent = []
    async with teed(tansu, tmp_path, collector.url, mode=mode) as ingest:
        for payload in run:
            body = gzip.compress(payload.body) if compressed else payload.body
            extra = {"content-encoding": "gzip"} if compressed else {}
            headers = payload.headers | extra | {"authorization": "Bearer the-companys-own"}
            answer = await ingest.client.post(payload.path, content=body, headers=headers)
            assert answer.status_code == 200
            sent.append((payload.path, body, headers))
        await until(lambda: len(collector.received) == len(run) and not waiting(tmp_path))
    for path, body, headers in sent:
        got = next(got for got in collector.received if got.path == path and got.body == body)
        named = {name: value for name, value in got.headers if name not in OF_ONE_CONNECTION}
        # httpx says more than the captured client did; what the client said is there and our key is not.
        assert named.items() >= headers.items()
        assert "x-tokentide-key" not in named
    assert await everything_on(tansu.url, USAGE)


async def test_a_grpc_call_reaches_a_grpc_collector_unchanged(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path
) -> None:
    port = free_port()
    run = payloads("03-files-grpc-resattrs")
    async with teed(tansu, tmp_path, "", grpc_url=collector.grpc_url, port=port) as ingest:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", compression=grpc.Compression.Gzip
        ) as channel:
            for payload in run:
                metadata = (("x-tokentide-key", ingest.secret), ("x-tenant", "one"))
                await channel.unary_unary(payload.path)(payload.body, metadata=metadata, timeout=20)
        await until(lambda: len(collector.received) == len(run) and not waiting(tmp_path))
    assert sorted(collector.bodies) == sorted(payload.body for payload in run)
    for got in collector.received:
        assert got.header("x-tenant") == ["one"]
        assert got.header("x-tokentide-key") == []


async def test_an_outage_of_the_collector_is_nobodys_business_in_a_mirror(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path
) -> None:
    await collector.stop()
    [logs] = [payload for payload in JSON_RUN if payload.path == "/v1/logs"][:1]
    async with teed(tansu, tmp_path, collector.url) as ingest:
        for _ in range(20):
            answer = await ingest.client.post(logs.path, content=logs.body, headers=logs.headers)
            assert answer.status_code == 200
        assert len(waiting(tmp_path)) == 20
        await collector.start()
        await until(lambda: not waiting(tmp_path))
    assert collector.bodies == [logs.body] * 20


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"content-type": "application/json", "x-collector": "a"}, b"{ }"),
        (200, {"content-type": "application/x-protobuf"}, b""),
        (200, {"content-type": "application/json", "content-encoding": "gzip"}, NOTHING),
        (400, {"content-type": "application/json"}, b'{"code":3,"message":"bad"}'),
        (429, {"retry-after": "11", "content-type": "text/plain; charset=utf-8"}, b"slow down"),
        (503, {"retry-after": "7"}, b"busy"),
    ],
)
async def test_in_a_proxy_the_answer_is_what_the_collector_itself_would_have_said(
    tansu: Broker,
    collector: RecordingCollector,
    tmp_path: Path,
    status: int,
    headers: dict[str, str],
    body: bytes,
) -> None:
    collector.answers.extend([(status, headers, body)] * 2)
    sent = {"content": b"{}", "headers": {"content-type": "application/json"}}
    async with teed(tansu, tmp_path, collector.url, mode="proxy") as ingest, httpx.AsyncClient() as client:
        direct = await client.post(f"{collector.url}/v1/logs", **sent)
        through = await ingest.client.post("/v1/logs", **sent)
    assert through.status_code == direct.status_code == status
    assert through.content == direct.content
    assert end_to_end(through.headers) == end_to_end(direct.headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json", "content-encoding": "deflate"},
        {"content-type": "application/x-protobuf", "content-encoding": "snappy"},
        {"content-type": "text/plain"},
    ],
)
async def test_in_a_proxy_the_collector_judges_what_we_cannot_read(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path, headers: dict[str, str]
) -> None:
    async with teed(tansu, tmp_path, collector.url, mode="proxy") as ingest:
        answer = await ingest.client.post("/v1/logs", content=b"\x00unreadable", headers=headers)
        await until(lambda: not waiting(tmp_path))
    assert answer.status_code == 200
    assert collector.bodies == [b"\x00unreadable"]


async def test_in_a_mirror_the_collector_gets_what_we_refuse(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path
) -> None:
    headers = {"content-type": "application/json", "content-encoding": "deflate"}
    async with teed(tansu, tmp_path, collector.url) as ingest:
        refused = await ingest.client.post("/v1/logs", content=b"unreadable", headers=headers)
        await until(lambda: collector.received)
    assert refused.status_code == 415
    assert collector.bodies == [b"unreadable"]


async def test_in_a_proxy_a_collector_that_is_away_is_503_in_the_words_of_otlp(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path
) -> None:
    await collector.stop()
    async with teed(tansu, tmp_path, collector.url, mode="proxy") as ingest:
        headers = {"content-type": "application/json"}
        answer = await ingest.client.post("/v1/logs", content=b"{}", headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert json.loads(answer.content)["code"] == 14


async def test_in_a_proxy_our_own_outage_is_not_the_clients_and_loses_nothing(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path
) -> None:
    async with teed(tansu, tmp_path, collector.url, mode="proxy") as ingest:
        tansu.pause()
        for payload in JSON_RUN:
            answer = await ingest.client.post(payload.path, content=payload.body, headers=payload.headers)
            assert answer.status_code == 200
        assert len(collector.received) == len(JSON_RUN)
        assert waiting(tmp_path)
        tansu.resume()
        await until(lambda: not waiting(tmp_path), within_s=60, what="our copies are taken in")
    assert await everything_on(tansu.url, USAGE)


@pytest.mark.parametrize("mode", ["mirror", "proxy"])
async def test_a_stranger_cannot_send_through_us(
    tansu: Broker, collector: RecordingCollector, tmp_path: Path, mode: str
) -> None:
    async with teed(tansu, tmp_path, collector.url, mode=mode) as ingest:
        headers = {"content-type": "application/json", "x-tokentide-key": "tt_m_guessed"}
        answer = await ingest.client.post("/v1/logs", content=b"{}", headers=headers)
        assert answer.status_code == 401
    assert collector.received == []
    assert waiting(tmp_path) == []
