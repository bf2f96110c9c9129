import asyncio
import gzip
import json
import re
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.brokers import Broker, Tansu
from infra.ingest_service import (
    BATCHES,
    Ingest,
    batch_body,
    event,
    everything_on,
    ingest_service,
    ready,
)
from infra.verdicts import Aggregator
from infra.waiting import until
from tokentide_common.accounts import issue_key, revoke_key
from tokentide_common.database import open_database
from tokentide_common.events import decode_wire_event
from tokentide_common.topics import USAGE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CANARY = "Canary-93bd what the person typed"


@pytest.fixture
async def ingest(tansu: Broker, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest_service(tansu.url, tmp_path) as service:
        await ready(service)
        yield service


async def test_accepted_events_are_on_the_topic_keyed_by_call_and_stamped(
    ingest: Ingest, tansu: Broker
) -> None:
    answer = await ingest.post([event(f"req_{n}", org_id="org_other") for n in range(1000)])
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (1000, [])
    assert body.keys() == {"batch_id", "accepted", "rejected"}
    records = await everything_on(tansu.url, USAGE)
    assert {record.key for record in records} == {f"req_{n}".encode() for n in range(1000)}
    assert len(records) == 1000
    for record in records:
        got = decode_wire_event(record.value)
        assert (got.org_id, got.key_id, got.machine_id) == (ingest.org_id, ingest.key_id, "mac-1")
        assert got.observed_at is not None
        assert record.headers == ()


async def test_one_invalid_event_is_told_by_index_and_the_others_go_through(
    ingest: Ingest, tansu: Broker
) -> None:
    events = [event(f"req_{n}") for n in range(1000)]
    events[417] = event("req_417", input_tokens=-1)
    body = (await ingest.post(events)).json()
    assert body["accepted"] == 999
    [rejection] = body["rejected"]
    assert (rejection["index"], rejection["code"]) == (417, "invalid_event")
    assert "input_tokens" in rejection["detail"]
    keys = {record.key for record in await everything_on(tansu.url, USAGE)}
    assert keys == {f"req_{n}".encode() for n in range(1000) if n != 417}


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress), ("identity", bytes)]
)
async def test_compressed_batches_are_read(
    ingest: Ingest, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    answer = await ingest.post(pack(batch_body([event()])), content_encoding=encoding)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


def problem(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "instance"}
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


async def test_each_refusal_has_its_status_and_code(ingest: Ingest, tansu: Broker) -> None:
    async def refused(body: bytes, **headers: str) -> tuple[int, str]:
        return problem(await ingest.post(body, **headers))

    good = batch_body([event()])
    assert await refused(b"{") == (400, "malformed_body")
    assert await refused(b"") == (400, "malformed_body")
    assert await refused(gzip.compress(good)[:-3], content_encoding="gzip") == (400, "malformed_body")
    assert await refused(gzip.compress(good) + b"x", content_encoding="gzip") == (400, "malformed_body")
    assert await refused(good, content_encoding="gzip") == (400, "malformed_body")
    assert await refused(batch_body([event()] * 1001)) == (413, "too_many_events")
    assert await refused(b" " * (10 * 2**20 + 1)) == (413, "too_large")
    assert await refused(good, content_encoding="br") == (415, "unsupported_encoding")
    assert await refused(good, content_encoding="gzip, gzip") == (415, "unsupported_encoding")
    assert await everything_on(tansu.url, USAGE) == []


async def test_an_unknown_encoding_is_told_which_ones_are_known(ingest: Ingest) -> None:
    answer = await ingest.post(b"", content_encoding="br")
    assert "zstd" in answer.headers["accept-encoding"]


async def test_keys_of_machines_and_of_the_api_are_let_in_and_no_others(ingest: Ingest) -> None:
    engine = open_database(ingest.settings.database_url)
    proxy_key, _ = issue_key(engine, ingest.org_id, "p")
    api_key, _ = issue_key(engine, ingest.org_id, "a")
    old_key, old = issue_key(engine, ingest.org_id, "m")
    revoke_key(engine, ingest.org_id, old.key_id)
    engine.dispose()
    body = batch_body([event()])

    async def status(**headers: str) -> int:
        headers = {"x-tokentide-key": "", **headers}
        return (await ingest.client.post(BATCHES, content=body, headers=headers)).status_code

    assert await status(authorization=f"Bearer {ingest.secret}") == 202

    async def new_key_is_known() -> bool:
        return await status(authorization=f"Bearer {api_key}") == 202

    await until(new_key_is_known)
    for bad in (f"Bearer {proxy_key}", f"Bearer {old_key}", "Bearer tt_m_x", "Bearer", f"Basic {api_key}"):
        assert await status(authorization=bad) == 401
    assert await status() == 401


async def test_who_asks_is_settled_before_the_body_is_read(ingest: Ingest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    head = f"POST {BATCHES} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()


async def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(ingest: Ingest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    head = f"POST {BATCHES} HTTP/1.1\r\nHost: x\r\nx-tokentide-key: {ingest.secret}\r\n"
    writer.write(f"{head}Content-Length: 104857600\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_key_that_is_too_fast_is_told_when_to_come_back(tansu: Broker, tmp_path: Path) -> None:
    options: dict[str, Any] = {"ingest_requests_per_s": 0.1, "ingest_burst_requests": 2}
    async with ingest_service(tansu.url, tmp_path, **options) as ingest:
        await ready(ingest)
        statuses = [(await ingest.post([event()])).status_code for _ in range(3)]
        assert statuses == [202, 202, 429]
        assert 1 <= int((await ingest.post([event()])).headers["retry-after"]) <= 10


async def test_a_body_that_drips_in_is_cut_off(tansu: Broker, tmp_path: Path) -> None:
    async with ingest_service(tansu.url, tmp_path, ingest_read_timeout_s=0.3) as ingest:
        await ready(ingest)
        reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
        head = f"POST {BATCHES} HTTP/1.1\r\nHost: x\r\nx-tokentide-key: {ingest.secret}\r\n"
        writer.write(f'{head}Content-Length: 100000\r\n\r\n{{"events"'.encode())
        answer = await asyncio.wait_for(reader.read(), 5)  # up to the end: the server closes
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"body_timeout" in answer
        writer.close()
        assert (await ingest.post([event()])).status_code == 202


async def test_a_client_that_leaves_within_its_body_harms_nobody(ingest: Ingest) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
        head = f"POST {BATCHES} HTTP/1.1\r\nHost: x\r\nx-tokentide-key: {ingest.secret}\r\n"
        writer.write(f'{head}Content-Length: 100000\r\n\r\n{{"events"'.encode())
        await writer.drain()
        writer.transport.abort()
    assert (await ingest.post([event()])).status_code == 202


async def test_health_tells_version_and_limits_without_a_key(ingest: Ingest) -> None:
    answer = await ingest.client.get("/api/v1/cli/health", headers={"x-tokentide-key": ""})
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "ok")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", body["version"])
    assert body["limits"] == {
        "max_events": 1000,
        "max_body_bytes": 10_485_760,
        "max_event_bytes": 131_072,
        "max_wait_s": 30,
        "encodings": ["identity", "gzip", "zstd"],
    }


async def test_metrics_count_what_happened(ingest: Ingest) -> None:
    await ingest.post([event(), event(input_tokens=-1)])
    await ingest.post(b"{")
    lines = (await ingest.client.get("/metrics")).text.splitlines()
    assert 'tokentide_ingest_events_total{outcome="accepted",source="cli"} 1.0' in lines
    assert 'tokentide_ingest_events_total{outcome="rejected",source="cli"} 1.0' in lines
    assert f'tokentide_ingest_requests_total{{route="{BATCHES}",status="400"}} 1.0' in lines
    assert "tokentide_ingest_bytes_in_flight 0.0" in lines


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_bombs_get_413(ingest: Ingest, encoding: str) -> None:
    packer: Any = zlib.compressobj(9, wbits=31) if encoding == "gzip" else zstd.ZstdCompressor()
    bomb = b"".join([packer.compress(bytes(2**20)) for _ in range(500)] + [packer.flush()])
    assert problem(await ingest.post(bomb, content_encoding=encoding)) == (413, "too_large")
    assert "tokentide_ingest_bytes_in_flight 0.0" in (await ingest.client.get("/metrics")).text


async def test_content_of_refused_events_is_nowhere(
    ingest: Ingest, tansu: Broker, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tokentide_ingest")
    answers = [
        await ingest.post(body)
        for body in (
            [event(prompt=CANARY)],
            [event(status=CANARY)],
            [event(input_tokens=CANARY)],
            [CANARY],
            [event(tags={"a": {"b": CANARY}})],
            json.dumps(CANARY).encode(),
            CANARY.encode(),
            json.dumps({"machine": CANARY, "events": []}).encode(),
        )
    ]
    said = "".join(answer.text for answer in answers)
    printed = capfd.readouterr()
    values = b"".join(record.value for record in await everything_on(tansu.url, USAGE))
    assert CANARY not in said + caplog.text + printed.out + printed.err + values.decode()


async def test_whoever_waits_gets_a_verdict_per_event(ingest: Ingest, tansu: Broker) -> None:
    async with Aggregator(tansu.url, "upgraded").running():
        answer = await ingest.post([event("a"), event(input_tokens=-1), event("b")], prefer="wait=20")
    assert answer.status_code == 200
    body = answer.json()
    assert body["stored"] is True
    assert body["verdicts"] == ["upgraded", "rejected", "upgraded"]
    assert (body["accepted"], [one["index"] for one in body["rejected"]]) == (2, [1])


async def test_waiting_ends_with_202_when_the_time_is_over(ingest: Ingest) -> None:
    answer = await ingest.post([event()], prefer="wait=1")
    assert answer.status_code == 202
    assert "stored" not in answer.json()


async def test_a_batch_without_accepted_events_has_nothing_to_wait_for(ingest: Ingest) -> None:
    answer = await ingest.post([event(input_tokens=-1)], prefer="wait=20")
    assert (answer.status_code, answer.json()["verdicts"]) == (200, ["rejected"])


async def test_embedded_nothing_is_acknowledged_before_it_is_stored(tansu: Broker, tmp_path: Path) -> None:
    async with ingest_service(tansu.url, tmp_path, embedded=True, ingest_store_timeout_s=1.0) as ingest:
        await ready(ingest)
        for wait in ({}, {"prefer": "wait=1"}):
            refused = await ingest.post([event()], **wait)
            assert problem(refused) == (503, "not_stored")
            assert int(refused.headers["retry-after"]) >= 1
        async with Aggregator(tansu.url).running():
            answer = await ingest.post([event()])
            assert (answer.status_code, answer.json().keys()) == (202, {"batch_id", "accepted", "rejected"})
            assert (await ingest.post([event()], prefer="wait=1")).json()["stored"] is True


GOOD = "an event of its own"
INVALID: list[Any] = [7, None, event(source="proxy"), event(input_tokens=-1), event(prompt=CANARY), {}]


@pytest.fixture(scope="module")
def module_tansu(tmp_path_factory: pytest.TempPathFactory) -> Any:
    broker = Tansu(tmp_path_factory.mktemp("tansu"))
    yield broker
    broker.stop()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.just(GOOD) | st.sampled_from(INVALID), max_size=40), max_size=4))
def test_any_mixture_is_split_into_accepted_on_the_topic_and_rejected_by_index(
    module_tansu: Broker, tmp_path_factory: pytest.TempPathFactory, batches: list[list[Any]]
) -> None:
    async def scenario() -> None:
        async with ingest_service(module_tansu.url, tmp_path_factory.mktemp("ingest")) as ingest:
            await ready(ingest)
            expected = []
            for number, shape in enumerate(batches):
                events = [
                    event(f"{ingest.org_id}-{number}-{index}", output_tokens=index) if one is GOOD else one
                    for index, one in enumerate(shape)
                ]
                body = (await ingest.post(events)).json()
                rejected = [one["index"] for one in body["rejected"]]
                good = [one for index, one in enumerate(events) if index not in rejected]
                assert rejected == [index for index, one in enumerate(events) if one in INVALID]
                assert body["accepted"] == len(good)
                expected += [(one["call_id"], one["output_tokens"]) for one in good]
            found = [
                decode_wire_event(record.value) for record in await everything_on(module_tansu.url, USAGE)
            ]
            mine = [(one.call_id, one.output_tokens) for one in found if one.org_id == ingest.org_id]
            assert sorted(mine) == sorted(expected)

    asyncio.run(scenario())
