"""Whatever is sent to the OTLP doors has a specified answer, and costs neither memory nor the neighbours."""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import httpx
import pytest
from google.protobuf.json_format import Parse
from google.rpc import code_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from infra.brokers import Broker
from infra.ingest_process import IngestProcess
from infra.ingest_service import Ingest, everything_on, ingest_service, ready
from infra.otlp_requests import (
    AT_NS,
    JSON,
    PROTOBUF,
    SESSION,
    api_request,
    body,
    key_values,
    lines_of_code,
    logs,
    status_of,
)
from tokentide_common.activity import decode_fact
from tokentide_common.topics import ACTIVITY, USAGE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB: Final = 2**20
FORTY_YEARS_NS: Final = 40 * 365 * 86_400 * 10**9
SERVICES: Final = {
    "/v1/logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "/v1/metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


class Answer(NamedTuple):
    """An answer in the words that all three ways have in common."""

    code: int
    rejected: int = 0


OK: Final = Answer(code_pb2.OK)
ONE_REJECTED: Final = Answer(code_pb2.OK, rejected=1)
MALFORMED: Final = Answer(code_pb2.INVALID_ARGUMENT)
TOO_LARGE: Final = Answer(code_pb2.RESOURCE_EXHAUSTED)
HTTP_STATUS: Final = {
    code_pb2.OK: 200,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.RESOURCE_EXHAUSTED: 413,
}


@pytest.fixture
async def ingest(tansu: Broker, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest_service(tansu.url, tmp_path) as service:
        await ready(service)
        yield service


class Way:
    """One of the three ways in."""

    def __init__(self, name: str, client: httpx.AsyncClient, grpc_address: str, secret: str) -> None:
        self.encoding = JSON if name == "json" else PROTOBUF
        self._is_grpc = name == "grpc"
        self._client, self._address, self._secret = client, grpc_address, secret

    async def send(self, content: bytes, path: str = "/v1/logs", *, packed: str = "") -> Answer:
        """Send a body, `packed` in gzip or zstd already, and return the answer."""
        if self._is_grpc:
            return await self._call(content, path)
        headers = {"content-type": self.encoding} | ({"content-encoding": packed} if packed else {})
        answer = await self._client.post(path, content=content, headers=headers)
        assert answer.headers["content-type"] == self.encoding
        if answer.status_code != 200:
            code = status_of(answer).code
            assert HTTP_STATUS[code] == answer.status_code
            return Answer(code)
        return self._success(answer.content, path)

    def _success(self, content: bytes, path: str) -> Answer:
        metrics = path == "/v1/metrics"
        response = ExportMetricsServiceResponse() if metrics else ExportLogsServiceResponse()
        if self.encoding == JSON:
            Parse(content, response)
        else:
            response.ParseFromString(content)
        partial = response.partial_success
        rejected = partial.rejected_data_points if metrics else partial.rejected_log_records
        assert bool(partial.error_message) == bool(rejected)
        return Answer(code_pb2.OK, rejected)

    async def _call(self, content: bytes, path: str) -> Answer:
        async with grpc.aio.insecure_channel(self._address) as channel:
            try:
                answer = await channel.unary_unary(SERVICES[path])(
                    content, metadata=(("x-tokentide-key", self._secret),), timeout=30
                )
            except grpc.aio.AioRpcError as error:
                return Answer(error.code().value[0])
        return self._success(answer, path)


WAYS: Final = ("protobuf", "json", "grpc")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, ingest: Ingest) -> Way:
    address = f"127.0.0.1:{ingest.app.state.otlp_grpc_port}"
    return Way(request.param, ingest.client, address, ingest.secret)


async def calls(broker: Broker) -> list[str]:
    return sorted(record.key.decode() for record in await everything_on(broker.url, USAGE))


async def lines_added(broker: Broker) -> list[str]:
    return sorted(decode_fact(record.value).value for record in await everything_on(broker.url, ACTIVITY))


def beside(bad: LogRecord, encoding: str) -> bytes:
    """A request in which a bad record stands between two good ones."""
    return body(logs([api_request("req_before"), bad, api_request("req_after")]), encoding)


def many_attributes() -> LogRecord:
    return api_request("req_bad", **{f"attribute.{number}": "x" * 20 for number in range(10_000)})


def nested(levels: int) -> AnyValue:
    value = AnyValue(string_value="deep")
    for _ in range(levels):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return value


def with_value(value: AnyValue) -> LogRecord:
    record = api_request("req_bad")
    record.attributes.extend(key_values({"payload": value}))
    return record


RECORDS: Final[dict[str, tuple[Callable[[], LogRecord], Answer]]] = {
    "10,000 attributes": (many_attributes, OK),
    "values nested 20 deep": (lambda: with_value(nested(20)), OK),
    "a negative count": (lambda: api_request("req_bad", input_tokens=-5), ONE_REJECTED),
    "a count over any": (lambda: api_request("req_bad", input_tokens=2**62), ONE_REJECTED),
    # What is no number or too long to be an id says nothing: the call is counted without it.
    "a count that is NaN": (lambda: api_request("req_bad", input_tokens=math.nan), OK),
    "an id of a megabyte": (lambda: api_request("req_bad", prompt__id="x" * MIB), OK),
    "a count that is no number": (lambda: api_request("req_bad", input_tokens="many"), ONE_REJECTED),
    "a clock 40 years slow": (lambda: api_request("req_bad", at_ns=AT_NS - FORTY_YEARS_NS), ONE_REJECTED),
    "a clock 40 years fast": (lambda: api_request("req_bad", at_ns=AT_NS + FORTY_YEARS_NS), ONE_REJECTED),
    "no time at all": (lambda: api_request("req_bad", at_ns=0), ONE_REJECTED),
}


async def test_a_bad_record_costs_itself_and_not_its_neighbours(way: Way, tansu: Broker) -> None:
    answers, expected = {}, {}
    for number, (name, (make, answer)) in enumerate(RECORDS.items()):
        neighbours = [api_request(f"req_{number}a"), make(), api_request(f"req_{number}b")]
        answers[name] = await way.send(body(logs(neighbours), way.encoding))
        expected[name] = answer
    assert answers == expected
    harmless = sum(answer == OK for answer in expected.values())
    neighbours = [f"req_{number}{side}" for number in range(len(RECORDS)) for side in "ab"]
    assert await calls(tansu) == sorted([*neighbours, *["req_bad"] * harmless])


async def test_points_that_cannot_be_added_up_cost_themselves(way: Way, tansu: Broker) -> None:
    request = body(lines_of_code([1, math.nan, math.inf, -3.0, 2]), way.encoding)
    assert await way.send(request, "/v1/metrics") == Answer(code_pb2.OK, rejected=3)
    assert await lines_added(tansu) == ["1", "2"]


async def test_points_of_unknown_temporality_or_of_a_clock_that_is_far_off_are_refused(
    way: Way, tansu: Broker
) -> None:
    request = lines_of_code([1])
    for temporality in (0, 77):
        request.MergeFrom(lines_of_code([5, 6], temporality))
    for offset_ns in (-FORTY_YEARS_NS, FORTY_YEARS_NS):
        request.MergeFrom(lines_of_code([7], at_ns=AT_NS + offset_ns))
    answer = await way.send(body(request, way.encoding), "/v1/metrics")
    assert answer == Answer(code_pb2.OK, rejected=6)
    assert await lines_added(tansu) == ["1"]


async def test_a_truncated_body_is_malformed(way: Way, tansu: Broker) -> None:
    whole = body(logs([api_request("req_1")]), way.encoding)
    for length in (1, len(whole) // 2, len(whole) - 1):
        assert await way.send(whole[:length]) == MALFORMED
    assert await calls(tansu) == []


async def test_invalid_utf_8_costs_its_record(way: Way, tansu: Broker) -> None:
    bad = api_request("req_bad", prompt="Canary-of-a-length")
    request = beside(bad, way.encoding).replace(b"Canary-of-a-length", b"Canary-\xff\xfe-a-length")
    assert await way.send(request) == ONE_REJECTED
    assert await calls(tansu) == ["req_after", "req_before"]


async def test_values_nested_without_end_cost_their_record_in_protobuf_and_are_no_json(
    way: Way, tansu: Broker
) -> None:
    if way.encoding == JSON:
        deep = b'{"arrayValue":{"values":[' * 10_000
        assert await way.send(b'{"resourceLogs":[{"resource":{"attributes":[{"value":' + deep) == MALFORMED
        return
    value = b"\x0a\x01x"
    for _ in range(3000):
        value = field(5, field(1, value))
    request = logs([api_request("req_before"), api_request("req_bad"), api_request("req_after")])
    [container] = request.resource_logs
    [scope] = container.scope_logs
    records = [record.SerializeToString() for record in scope.log_records]
    records[1] += field(6, field(1, b"deep") + field(2, value))
    resource = field(1, container.resource.SerializeToString())
    scoped = field(1, scope.scope.SerializeToString()) + b"".join(field(2, record) for record in records)
    assert await way.send(field(1, resource + field(2, scoped))) == ONE_REJECTED
    assert await calls(tansu) == ["req_after", "req_before"]


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


async def test_a_body_in_another_encoding_than_it_says_is_malformed(ingest: Ingest, tansu: Broker) -> None:
    for said, meant in ((JSON, PROTOBUF), (PROTOBUF, JSON)):
        content = body(logs([api_request("req_1")]), meant)
        answer = await ingest.client.post("/v1/logs", content=content, headers={"content-type": said})
        assert (answer.status_code, status_of(answer).code) == (400, code_pb2.INVALID_ARGUMENT)
    assert await calls(tansu) == []


@pytest.fixture
async def process(tansu: Broker, tmp_path: Path) -> AsyncIterator[IngestProcess]:
    service = IngestProcess(tmp_path, tansu.url, TOKENTIDE_LOG_LEVEL="info")
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


@pytest.mark.parametrize("name", WAYS)
async def test_what_is_too_large_is_refused_in_flat_memory(
    name: str, process: IngestProcess, tansu: Broker
) -> None:
    way = Way(name, process.client, process.otlp_grpc, process.secret)
    good = body(logs([api_request(f"req_{number}") for number in range(2000)]), way.encoding)
    assert await way.send(good) == OK
    before = process.memory()
    after: list[int] = []
    for _ in range(3):
        assert await way.send(bytes(100 * MIB)) == TOO_LARGE
        assert await way.send(bomb(zlib.compressobj(9, wbits=31)), packed="gzip") == TOO_LARGE
        if name != "grpc":
            assert await way.send(bomb(zstd.ZstdCompressor()), packed="zstd") == TOO_LARGE
        after.append(process.memory())
    # Two bodies of the largest size that is read: what was sent, and what became of it.
    assert max(after) - before < 4 * 10 * MIB
    assert await way.send(good) == OK


def bomb(packer: Any) -> bytes:
    """300 MB of zeros, packed."""
    return b"".join([packer.compress(bytes(MIB)) for _ in range(300)] + [packer.flush()])


async def test_hostile_bodies_of_the_largest_size_leave_the_service_answering_in_bounded_memory(
    process: IngestProcess, tansu: Broker
) -> None:
    ways = {name: Way(name, process.client, process.otlp_grpc, process.secret) for name in WAYS}
    small = body(logs([api_request("req_small")]), PROTOBUF)
    assert await ways["protobuf"].send(small) == OK
    before = process.memory()
    size = 9 * MIB
    hostile = {
        "protobuf": b"\x0a\x00" * (size // 2),
        "grpc": b"\x0a\x02\x12\x00" * (size // 4),
        "json": b'{"resourceLogs":[' + b"{}," * (size // 3) + b"{}]}",
    }
    for name, content in hostile.items():
        for _ in range(2):
            answer = await ways[name].send(content)
            assert answer.code in (code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.RESOURCE_EXHAUSTED)
    assert process.memory() - before < 150 * MIB
    assert (await process.client.get("/healthz")).status_code == 200
    assert await ways["json"].send(body(logs([api_request("req_other")]), JSON)) == OK
    assert SESSION not in process.log()
    assert set(await calls(tansu)) == {"req_small", "req_other"}


async def test_a_body_that_only_says_that_it_is_compressed_is_malformed(ingest: Ingest) -> None:
    for encoding, content in (("gzip", b"\x1f\x8b"), ("zstd", b"{}"), ("gzip", gzip.compress(b"{}") + b"x")):
        headers = {"content-type": JSON, "content-encoding": encoding}
        answer = await ingest.client.post("/v1/logs", content=content, headers=headers)
        assert (answer.status_code, status_of(answer).code) == (400, code_pb2.INVALID_ARGUMENT)
