"""OTLP over HTTP: what arrives where, and the answer that every sender gets."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import Parse
from google.rpc import code_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from infra.brokers import Broker
from infra.ingest_service import Ingest, everything_on, ingest_service, ready
from infra.otlp_requests import (
    JSON,
    PROTOBUF,
    SESSION,
    api_request,
    body,
    lines_of_code,
    logs,
    retry_seconds,
    status_of,
    tool_decision,
)
from infra.verdicts import Aggregator
from infra.waiting import until
from tokentide_common.accounts import issue_key
from tokentide_common.activity import decode_fact
from tokentide_common.database import open_database
from tokentide_common.events import decode_wire_event
from tokentide_common.topics import ACTIVITY, USAGE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SIGNALS = ("/v1/logs", "/v1/metrics", "/v1/traces")
BOTH = pytest.mark.parametrize("content_type", [PROTOBUF, JSON])


@pytest.fixture
async def ingest(tansu: Broker, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest_service(tansu.url, tmp_path) as service:
        await ready(service)
        yield service


async def send(
    ingest: Ingest, content: Any, content_type: str = PROTOBUF, path: str = "/v1/logs", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ingest.client.post(path, content=content, headers={"content-type": content_type, **named})


async def answered(ingest: Ingest, status: int, content: bytes = b"", **headers: str) -> bool:
    return (await send(ingest, content, **headers)).status_code == status


async def call_ids(broker: Broker) -> list[str]:
    return sorted(record.key.decode() for record in await everything_on(broker.url, USAGE))


@BOTH
async def test_calls_and_activity_are_on_their_topics_keyed_and_stamped(
    content_type: str, ingest: Ingest, tansu: Broker
) -> None:
    request = logs(
        [api_request("req_1", user__email="Ana@example.com"), tool_decision()], organization__id="other"
    )
    answer = await send(ingest, body(request, content_type), content_type)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content == (b"" if content_type == PROTOBUF else b"{}")
    [record] = await everything_on(tansu.url, USAGE)
    event = decode_wire_event(record.value)
    assert record.key == event.call_id.encode() == b"req_1"
    assert (event.org_id, event.key_id, event.source) == (ingest.org_id, ingest.key_id, "otlp")
    assert (event.user_id, event.user_email) == ("ana@example.com", "ana@example.com")
    assert (event.input_tokens, event.output_tokens) == (10, 5)
    assert event.observed_at is not None
    [record] = await everything_on(tansu.url, ACTIVITY)
    fact = decode_fact(record.value)
    assert record.key == fact.series_id.encode()
    assert (fact.org_id, fact.key_id, fact.session_id) == (ingest.org_id, ingest.key_id, SESSION)


@BOTH
@pytest.mark.parametrize("path", SIGNALS)
async def test_an_empty_request_is_a_success(path: str, content_type: str, ingest: Ingest) -> None:
    empty = b"" if content_type == PROTOBUF else b"{}"
    answer = await send(ingest, empty, content_type, path)
    assert (answer.status_code, answer.content) == (200, empty)
    assert answer.headers["content-type"] == content_type


@pytest.mark.parametrize("content_type", [f"{JSON}; charset=utf-8", "Application/JSON"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(
    content_type: str, ingest: Ingest
) -> None:
    answer = await send(ingest, b"{}", content_type)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)


@BOTH
@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("identity", bytes)]
)
async def test_compressed_bodies_are_read_sized_or_in_chunks(
    encoding: str, pack: Callable[[bytes], bytes], content_type: str, ingest: Ingest, tansu: Broker
) -> None:
    packed = {
        name: pack(body(logs([api_request(f"req_{name}")]), content_type)) for name in ("sized", "chunked")
    }

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(packed["chunked"]), 50):
            yield packed["chunked"][start : start + 50]

    for content in (packed["sized"], chunks()):
        answer = await send(ingest, content, content_type, content_encoding=encoding)
        assert answer.status_code == 200
    assert await call_ids(tansu) == ["req_chunked", "req_sized"]


@BOTH
async def test_what_is_refused_is_counted_in_a_partial_success_and_its_neighbours_are_kept(
    content_type: str, ingest: Ingest, tansu: Broker
) -> None:
    records = [api_request(f"req_{n}") for n in range(5)]
    records[2] = api_request("req_2", input_tokens=-1)
    answer = await send(ingest, body(logs(records), content_type), content_type)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    if content_type == JSON:
        response = Parse(answer.text, ExportLogsServiceResponse())
        assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    else:
        response = ExportLogsServiceResponse.FromString(answer.content)
    assert response.partial_success.rejected_log_records == 1
    assert "input_tokens" in response.partial_success.error_message
    assert await call_ids(tansu) == ["req_0", "req_1", "req_3", "req_4"]


@BOTH
async def test_each_refusal_is_a_status_in_the_encoding_of_the_request(
    content_type: str, ingest: Ingest, tansu: Broker
) -> None:
    good = body(logs([api_request("req_1")]), content_type)

    async def refused(content: bytes, **headers: str) -> tuple[int, int, str]:
        answer = await send(ingest, content, content_type, **headers)
        assert answer.headers["content-type"] == content_type
        assert "retry-after" not in answer.headers
        status = status_of(answer)
        assert retry_seconds(status) == 0
        return answer.status_code, status.code, status.message.partition(":")[0]

    bad, large = code_pb2.INVALID_ARGUMENT, code_pb2.RESOURCE_EXHAUSTED
    assert await refused(good[:-1]) == (400, bad, "malformed_body")
    assert await refused(gzip.compress(good)[:-3], content_encoding="gzip") == (400, bad, "malformed_body")
    assert await refused(good, content_encoding="gzip") == (400, bad, "malformed_body")
    assert await refused(good, content_encoding="br") == (415, bad, "unsupported_encoding")
    assert await refused(good, content_encoding="gzip, gzip") == (415, bad, "unsupported_encoding")
    assert await refused(bytes(10 * 2**20 + 1)) == (413, large, "too_large")
    nobody = code_pb2.UNAUTHENTICATED
    assert await refused(good, x_tokentide_key="tt_m_wrong") == (401, nobody, "unauthorized")
    assert await refused(good, x_tokentide_key="") == (401, nobody, "unauthorized")
    assert await call_ids(tansu) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc", "application/json5", ""])
async def test_an_unknown_content_type_is_told_which_ones_are_known(
    content_type: str, ingest: Ingest
) -> None:
    answer = await send(ingest, b"{}", content_type)
    assert (answer.status_code, answer.headers["content-type"]) == (415, JSON)
    assert status_of(answer).code == code_pb2.INVALID_ARGUMENT
    assert PROTOBUF in answer.headers["accept"]
    assert "zstd" in answer.headers["accept-encoding"]


async def test_keys_of_machines_and_of_the_api_are_let_in_and_no_others(ingest: Ingest) -> None:
    engine = open_database(ingest.settings.database_url)
    keys = {kind: issue_key(engine, ingest.org_id, kind)[0] for kind in ("m", "a", "p")}
    engine.dispose()

    def gets(status: int, authorization: str = "") -> Awaitable[bool]:
        return answered(ingest, status, x_tokentide_key="", authorization=authorization)

    assert await gets(200, f"Bearer {ingest.secret}")
    for kind in ("m", "a"):
        await until(lambda kind=kind: gets(200, f"Bearer {keys[kind]}"), what=f"the {kind} key is known")
    for other in (f"Bearer {keys['p']}", f"Basic {ingest.secret}", "Bearer", ""):
        assert await gets(401, other)


async def test_who_asks_is_settled_before_the_body_is_read(ingest: Ingest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 1000000\r\n"
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()


async def test_whoever_is_too_fast_is_asked_to_come_back_with_an_answer_that_every_exporter_retries(
    tansu: Broker, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"ingest_requests_per_s": 0.1, "ingest_burst_requests": 2}
    async with ingest_service(tansu.url, tmp_path, **options) as ingest:
        await ready(ingest)
        answers = [await send(ingest, b"") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 10
    assert status_of(answers[2]).code == code_pb2.UNAVAILABLE
    assert retry_seconds(status_of(answers[2])) == int(answers[2].headers["retry-after"])


async def test_a_broker_that_is_away_asks_for_a_retry_and_the_retry_succeeds(
    ingest: Ingest, tansu: Broker
) -> None:
    request = body(logs([api_request("req_1"), tool_decision()]), JSON)
    tansu.pause()
    try:
        answer = await send(ingest, request, JSON)
    finally:
        tansu.resume()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert status_of(answer).message.startswith("broker_unavailable")
    assert (await send(ingest, request, JSON)).status_code == 200
    assert set(await call_ids(tansu)) == {"req_1"}


async def test_what_is_over_the_memory_budget_may_come_again(tansu: Broker, tmp_path: Path) -> None:
    async with ingest_service(tansu.url, tmp_path, ingest_bytes_in_flight=16 * 2**20) as ingest:
        await ready(ingest)
        _, slow = await asyncio.open_connection("127.0.0.1", ingest.port)
        head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nx-tokentide-key: {ingest.secret}\r\n"
        slow.write(f"{head}Content-Type: {JSON}\r\nContent-Length: 10000000\r\n\r\n".encode())
        slow.write(b" " * 9_999_999)
        await slow.drain()

        async def held() -> bool:
            lines = (await ingest.client.get("/metrics")).text.splitlines()
            return "tokentide_ingest_bytes_in_flight 9.999999e+06" in lines

        await until(held)
        answer = await send(ingest, b" " * 9_000_000, JSON)
        assert (answer.status_code, status_of(answer).message.partition(":")[0]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await send(ingest, b"{}", JSON)).status_code == 200
        slow.close()


async def test_a_body_that_drips_in_is_cut_off_and_may_come_again(tansu: Broker, tmp_path: Path) -> None:
    async with ingest_service(tansu.url, tmp_path, ingest_read_timeout_s=0.3) as ingest:
        await ready(ingest)
        reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
        head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nx-tokentide-key: {ingest.secret}\r\n"
        writer.write(f"{head}Content-Type: {JSON}\r\nContent-Length: 100000\r\n\r\n{{".encode())
        answer = await asyncio.wait_for(reader.read(), 5)  # up to the end: the server closes
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"body_timeout" in answer
        writer.close()


async def test_a_large_request_is_taken_whole(ingest: Ingest, tansu: Broker) -> None:
    records = [api_request(f"req_{number:05}") for number in range(4500)]
    answer = await send(ingest, gzip.compress(body(logs(records), PROTOBUF)), content_encoding="gzip")
    assert (answer.status_code, answer.content) == (200, b"")
    assert await call_ids(tansu) == [f"req_{number:05}" for number in range(4500)]


async def test_metrics_are_activity(ingest: Ingest, tansu: Broker) -> None:
    answer = await send(ingest, body(lines_of_code([3, 4]), PROTOBUF), path="/v1/metrics")
    assert (answer.status_code, answer.content) == (200, b"")
    facts = [decode_fact(record.value) for record in await everything_on(tansu.url, ACTIVITY)]
    assert sorted((fact.metric, fact.kind, fact.value) for fact in facts) == [
        ("lines_of_code", "added", "3"),
        ("lines_of_code", "added", "4"),
    ]
    assert await call_ids(tansu) == []


@pytest.mark.parametrize("missing", [USAGE, ACTIVITY])
async def test_embedded_nothing_is_acknowledged_before_all_of_it_is_stored(
    missing: str, tansu: Broker, tmp_path: Path
) -> None:
    request = body(logs([api_request("req_1"), tool_decision()]), PROTOBUF)
    (stored,) = {USAGE, ACTIVITY} - {missing}
    async with ingest_service(tansu.url, tmp_path, embedded=True, ingest_store_timeout_s=1.0) as ingest:
        await ready(ingest)
        async with Aggregator(tansu.url, topics=(stored,)).running():
            refused = await send(ingest, request)
        assert (refused.status_code, status_of(refused).message.partition(":")[0]) == (503, "not_stored")
        assert int(refused.headers["retry-after"]) >= 1
        async with Aggregator(tansu.url).running():
            assert (await send(ingest, request)).status_code == 200


async def test_embedded_a_record_that_cannot_be_stored_is_answered_as_rejected(
    tansu: Broker, tmp_path: Path
) -> None:
    prompt = tool_decision(**{"event.name": "user_prompt", "prompt_length": 12})
    records = [api_request("req_1", input_tokens=-1), api_request("req_2"), tool_decision(), prompt]
    request = body(logs(records), PROTOBUF)
    async with ingest_service(tansu.url, tmp_path, embedded=True) as ingest:
        await ready(ingest)
        of_calls, of_facts = (
            Aggregator(tansu.url, topics=(USAGE,)),
            Aggregator(tansu.url, "rejected", (ACTIVITY,)),
        )
        async with of_calls.running(), of_facts.running():
            answer = await send(ingest, request)
        lines = (await ingest.client.get("/metrics")).text.splitlines()
    said = ExportLogsServiceResponse.FromString(answer.content).partial_success
    # The record that the door refused and two that came to nothing, one of them with two facts.
    assert (answer.status_code, said.rejected_log_records) == (200, 3)
    assert "input_tokens" in said.error_message
    assert "could not be stored" in said.error_message
    assert 'tokentide_ingest_events_total{outcome="accepted",source="otlp"} 1.0' in lines
    assert 'tokentide_ingest_events_total{outcome="rejected",source="otlp"} 3.0' in lines


async def test_configured_attributes_become_tags_of_which_so_many_values_are_kept(
    tansu: Broker, tmp_path: Path
) -> None:
    tags = {
        "otlp_tag_attributes": ("repo", "deployment.environment.name=environment"),
        "tag_values": 1,
    }
    async with ingest_service(tansu.url, tmp_path, **tags) as ingest:
        await ready(ingest)
        resource = {"repo": "tide", "deployment__environment__name": "prod", "host__name": "mac"}
        for repo in ("tide", "one too many"):
            request = logs([api_request(f"req_{repo}")], **resource | {"repo": repo})
            assert (await send(ingest, body(request, PROTOBUF))).content == b""
        lines = (await ingest.client.get("/metrics")).text.splitlines()
    records = await everything_on(tansu.url, USAGE)
    told = {record.key: decode_wire_event(record.value).tags for record in records}
    assert told[b"req_tide"] == {"repo": "tide", "environment": "prod"}
    assert told[b"req_one too many"] == {"environment": "prod"}
    assert 'tokentide_tag_values_dropped_total{source="otlp"} 1.0' in lines


async def test_the_key_speaks_where_telemetry_is_silent(tansu: Broker, tmp_path: Path) -> None:
    async with ingest_service(tansu.url, tmp_path) as ingest:
        engine = open_database(ingest.settings.database_url)
        secret, _ = issue_key(
            engine, ingest.org_id, "m", user_id="bea", machine_id="m7", team="core", project="tide"
        )
        engine.dispose()
        await ready(ingest)
        named = api_request("req_named", user__email="ana@example.com")
        request = body(logs([api_request("req_silent"), named], **{"team.id": "edge"}), PROTOBUF)
        await until(lambda: answered(ingest, 200, content=request, x_tokentide_key=secret))
        anonymous = [
            api_request("req_account", user__account_uuid="acc_1", user__id="d" * 64),
            api_request("req_device", user__id="d" * 64),
        ]
        assert (await send(ingest, body(logs(anonymous), PROTOBUF))).is_success
    events = {
        event.call_id: event
        for record in await everything_on(tansu.url, USAGE)
        for event in [decode_wire_event(record.value)]
    }
    silent, named_event = events["req_silent"], events["req_named"]
    assert (silent.user_id, silent.machine_id, silent.team, silent.project) == ("bea", "m7", "edge", "tide")
    assert (named_event.user_id, named_event.machine_id) == ("ana@example.com", "m7")
    assert (events["req_account"].user_id, events["req_device"].user_id) == ("acc_1", "d" * 64)


async def test_requests_are_counted_and_logged_once(
    ingest: Ingest, capfd: pytest.CaptureFixture[str]
) -> None:
    await send(ingest, body(logs([api_request("req_1"), api_request("req_2", input_tokens=-1)]), PROTOBUF))
    await send(ingest, b"{", JSON)
    lines = (await ingest.client.get("/metrics")).text.splitlines()
    assert 'tokentide_ingest_events_total{outcome="accepted",source="otlp"} 1.0' in lines
    assert 'tokentide_ingest_events_total{outcome="rejected",source="otlp"} 1.0' in lines
    assert 'tokentide_ingest_requests_total{route="/v1/logs",status="200"} 1.0' in lines
    assert 'tokentide_ingest_requests_total{route="/v1/logs",status="400"} 1.0' in lines
    assert "tokentide_ingest_bytes_in_flight 0.0" in lines
    told = [line for line in capfd.readouterr().out.splitlines() if "telemetry_answered" in line]
    assert len(told) == 2
