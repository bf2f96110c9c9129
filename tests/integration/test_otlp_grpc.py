"""OTLP over gRPC: what arrives where, and the answer that every sender gets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from infra.brokers import Broker
from infra.ingest_service import Ingest, everything_on, ingest_service, ready
from infra.otlp_requests import api_request, lines_of_code, logs, retry_seconds, tool_decision
from infra.process import free_port
from infra.verdicts import Aggregator
from infra.waiting import until
from tokentide_common.errors import TokentideError
from tokentide_common.events import decode_wire_event
from tokentide_common.topics import ACTIVITY, USAGE

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
GOOD = logs([api_request("req_1")]).SerializeToString()


class Sender:
    """A client of the gRPC door, which sends what it is given."""

    def __init__(self, ingest: Ingest) -> None:
        self.port = ingest.app.state.otlp_grpc_port
        self.secret = ingest.secret
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")

    async def send(self, message: bytes, path: str = LOGS, key: str | None = None, **options: Any) -> bytes:
        key = self.secret if key is None else key
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        return await self.channel.unary_unary(path)(message, metadata=metadata, timeout=30, **options)

    async def refused(self, message: bytes, **options: Any) -> tuple[grpc.StatusCode, int, str]:
        """The status, the seconds after which a retry is asked for (0: none), and the stable code."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.send(message, **options)
        error = caught.value
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        if status.code:
            assert (status.code, status.message) == (error.code().value[0], error.details())
        return error.code(), retry_seconds(status), (error.details() or "").partition(":")[0]


@contextlib.asynccontextmanager
async def serving(broker: Broker, folder: Path, **options: Any) -> AsyncIterator[tuple[Ingest, Sender]]:
    async with ingest_service(broker.url, folder, **options) as ingest:
        await ready(ingest)
        sender = Sender(ingest)
        yield ingest, sender
        await sender.channel.close()


@pytest.fixture
async def service(tansu: Broker, tmp_path: Path) -> AsyncIterator[tuple[Ingest, Sender]]:
    async with serving(tansu, tmp_path) as running:
        yield running


@pytest.fixture
def sender(service: tuple[Ingest, Sender]) -> Sender:
    return service[1]


async def call_ids(broker: Broker) -> list[str]:
    return sorted(record.key.decode() for record in await everything_on(broker.url, USAGE))


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_calls_and_activity_are_on_their_topics_and_stamped(
    compression: grpc.Compression, service: tuple[Ingest, Sender], tansu: Broker
) -> None:
    ingest, sender = service
    message = logs([api_request("req_1"), tool_decision()]).SerializeToString()
    assert await sender.send(message, compression=compression) == b""
    assert await sender.send(lines_of_code([3]).SerializeToString(), METRICS, compression=compression) == b""
    [record] = await everything_on(tansu.url, USAGE)
    event = decode_wire_event(record.value)
    assert (event.call_id, event.org_id, event.key_id) == ("req_1", ingest.org_id, ingest.key_id)
    assert len(await everything_on(tansu.url, ACTIVITY)) == 2


@pytest.mark.parametrize("path", [LOGS, METRICS, TRACES])
async def test_an_empty_request_is_a_success(path: str, sender: Sender) -> None:
    assert await sender.send(b"", path) == b""
    assert await sender.send(b"", path, compression=grpc.Compression.Gzip) == b""


async def test_the_official_stub_reads_a_partial_success(sender: Sender, tansu: Broker) -> None:
    records = [api_request("req_0"), api_request("req_1", output_tokens=-1), api_request("req_2")]
    metadata = (("x-tokentide-key", sender.secret),)
    answer: ExportLogsServiceResponse = await LogsServiceStub(sender.channel).Export(
        logs(records), metadata=metadata
    )
    assert answer.partial_success.rejected_log_records == 1
    assert "output_tokens" in answer.partial_success.error_message
    assert await call_ids(tansu) == ["req_0", "req_2"]


async def test_each_refusal_has_its_status_and_asks_for_no_retry(sender: Sender, tansu: Broker) -> None:
    code = grpc.StatusCode
    assert await sender.refused(GOOD[:-1]) == (code.INVALID_ARGUMENT, 0, "malformed_body")
    assert await sender.refused(gzip.compress(GOOD)[:-3]) == (code.INVALID_ARGUMENT, 0, "malformed_body")
    assert await sender.refused(GOOD, key="") == (code.UNAUTHENTICATED, 0, "unauthorized")
    assert await sender.refused(GOOD, key="tt_m_wrong") == (code.UNAUTHENTICATED, 0, "unauthorized")
    too_long = await sender.refused(bytes(10 * 2**20 + 1))
    assert too_long[:2] == (code.RESOURCE_EXHAUSTED, 0)
    unknown = await sender.refused(b"", path="/opentelemetry.proto.collector.logs.v1.LogsService/Import")
    assert unknown[:2] == (code.UNIMPLEMENTED, 0)
    deflated = await sender.refused(GOOD, compression=grpc.Compression.Deflate)
    assert deflated[:2] == (code.UNIMPLEMENTED, 0)
    assert await call_ids(tansu) == []


async def test_a_bomb_is_refused_as_soon_as_it_passes_the_bound(sender: Sender) -> None:
    await sender.send(b"")
    before = psutil.Process().memory_info().rss
    bomb = bytes(200 * 2**20)
    for _ in range(3):
        refused = await sender.refused(bomb, compression=grpc.Compression.Gzip)
        assert refused == (grpc.StatusCode.RESOURCE_EXHAUSTED, 0, "too_large")
    del bomb
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


async def test_whoever_is_too_fast_is_asked_to_come_back(tansu: Broker, tmp_path: Path) -> None:
    options: dict[str, Any] = {"ingest_requests_per_s": 0.1, "ingest_burst_requests": 1}
    async with serving(tansu, tmp_path, **options) as (_, sender):
        await sender.send(b"")
        code, seconds, reason = await sender.refused(b"")
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "rate_limited")
    assert 1 <= seconds <= 10


async def test_a_broker_that_is_away_asks_for_a_retry_and_the_retry_succeeds(
    sender: Sender, tansu: Broker
) -> None:
    tansu.pause()
    try:
        code, seconds, reason = await sender.refused(GOOD)
    finally:
        tansu.resume()
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "broker_unavailable")
    assert seconds >= 1
    await sender.send(GOOD)
    assert set(await call_ids(tansu)) == {"req_1"}


async def test_embedded_nothing_is_acknowledged_before_it_is_stored(tansu: Broker, tmp_path: Path) -> None:
    async with serving(tansu, tmp_path, embedded=True, ingest_store_timeout_s=1.0) as (_, sender):
        code, seconds, reason = await sender.refused(GOOD)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "not_stored")
        assert seconds >= 1
        async with Aggregator(tansu.url).running():
            assert await sender.send(GOOD) == b""


async def test_a_message_that_never_comes_is_not_waited_for(tansu: Broker, tmp_path: Path) -> None:
    async with serving(tansu, tmp_path, ingest_read_timeout_s=0.3) as (_, sender):
        never = asyncio.Event()

        async def messages() -> AsyncIterator[bytes]:
            await never.wait()
            yield b""

        metadata = (("authorization", f"Bearer {sender.secret}"),)
        call = sender.channel.stream_unary(LOGS)(messages(), metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await sender.send(GOOD) == b""


async def test_clients_that_leave_harm_nobody(sender: Sender, tansu: Broker) -> None:
    for _ in range(20):
        task = asyncio.create_task(sender.send(GOOD))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await sender.send(GOOD) == b""
    assert set(await call_ids(tansu)) == {"req_1"}


async def test_the_end_of_the_service_finishes_what_is_in_work(tansu: Broker, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ingest, sender = await stack.enter_async_context(
            serving(tansu, tmp_path, embedded=True, ingest_store_timeout_s=10.0)
        )

        async def waits() -> bool:
            return "tokentide_ingest_requests_waiting 1.0" in (await ingest.client.get("/metrics")).text

        sending = asyncio.create_task(sender.send(GOOD))
        await until(waits)
        channel, sender.channel = sender.channel, grpc.aio.insecure_channel("127.0.0.1:1")
        async with Aggregator(tansu.url).running():
            await stack.aclose()
            assert await sending == b""
        await channel.close()


async def test_services_in_one_process_have_doors_of_their_own_and_start_again(
    tansu: Broker, tmp_path: Path
) -> None:
    for round_ in ("a", "b"):
        one, other = tmp_path / f"{round_}1", tmp_path / f"{round_}2"
        one.mkdir()
        other.mkdir()
        async with serving(tansu, one) as (_, first), serving(tansu, other) as (_, second):
            assert first.port != second.port
            assert await first.send(GOOD) == await second.send(GOOD) == b""
            refused = await first.refused(GOOD, key=second.secret)
            assert refused[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_taken_port_stops_the_start(tansu: Broker, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    port = free_port()
    async with serving(tansu, tmp_path, otlp_grpc_port=port):
        with pytest.raises(TokentideError) as caught:
            async with serving(tansu, tmp_path / "second", otlp_grpc_port=port):
                pass
    assert caught.value.stable_code == "start_failed"
