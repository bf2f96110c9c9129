"""Clients of the same machine need no key where the settings say for whom they speak; nobody else gains."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from infra.brokers import Broker
from infra.ingest_service import BATCHES, Ingest, batch_body, event, everything_on, ingest_service, ready
from infra.otlp_requests import PROTOBUF, api_request, logs
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key, revoke_key
from tokentide_common.database import open_database
from tokentide_common.events import decode_wire_event
from tokentide_common.topics import USAGE

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
REQUEST = logs([api_request("req_1")]).SerializeToString()
NO_KEY = {"x-tokentide-key": ""}


@contextlib.asynccontextmanager
async def open_to_this_machine(broker: Broker, folder: Path) -> AsyncIterator[tuple[Ingest, str]]:
    """A service for which clients of this machine are the user `ana`; also the id of her key."""
    (folder / "own").mkdir()
    engine = open_database(migrated_sqlite(folder / "own" / "accounts.db"))
    secret, record = issue_key(engine, create_organization(engine, "Local"), "m", user_id="ana")
    engine.dispose()
    async with ingest_service(broker.url, folder / "own", otlp_loopback_key=secret) as ingest:
        await ready(ingest)
        yield ingest, record.key_id


@pytest.fixture
async def local(tansu: Broker, tmp_path: Path) -> AsyncIterator[tuple[Ingest, str]]:
    async with open_to_this_machine(tansu, tmp_path) as service:
        yield service


@pytest.fixture
def ingest(local: tuple[Ingest, str]) -> Ingest:
    return local[0]


async def status(ingest: Ingest, **headers: str) -> int:
    named = NO_KEY | {"content-type": PROTOBUF} | {k.replace("_", "-"): v for k, v in headers.items()}
    return (await ingest.client.post("/v1/logs", content=REQUEST, headers=named)).status_code


async def over_grpc(ingest: Ingest, **metadata: str) -> grpc.StatusCode:
    named = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ingest.app.state.otlp_grpc_port}") as channel:
        try:
            await channel.unary_unary(LOGS)(REQUEST, metadata=named)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_without_a_key_a_client_of_this_machine_is_its_user(
    local: tuple[Ingest, str], tansu: Broker
) -> None:
    ingest, key_id = local
    assert await status(ingest) == 200
    assert await over_grpc(ingest) is grpc.StatusCode.OK
    events = [decode_wire_event(record.value) for record in await everything_on(tansu.url, USAGE)]
    assert [(event.user_id, event.key_id) for event in events] == [("ana", key_id)] * 2


async def test_credentials_for_a_collector_behind_us_are_no_key_of_ours(
    local: tuple[Ingest, str], tansu: Broker
) -> None:
    ingest, key_id = local
    for theirs in ("Bearer of-the-collector", "Basic dXNlcjpwYXNz"):
        assert await status(ingest, authorization=theirs) == 200
        assert await over_grpc(ingest, authorization=theirs) is grpc.StatusCode.OK
    events = [decode_wire_event(record.value) for record in await everything_on(tansu.url, USAGE)]
    assert {event.key_id for event in events} == {key_id}


async def test_a_key_goes_before_the_place_and_a_wrong_one_is_refused(ingest: Ingest, tansu: Broker) -> None:
    assert await status(ingest, x_tokentide_key=ingest.secret) == 200
    [record] = await everything_on(tansu.url, USAGE)
    assert decode_wire_event(record.value).org_id == ingest.org_id
    for headers in ({"authorization": "Bearer tt_m_wrong"}, {"x_tokentide_key": "wrong"}):
        assert await status(ingest, **headers) == 401
        assert await over_grpc(ingest, **headers) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded", "x_real_ip", "via", "origin"])
async def test_a_proxy_or_a_web_page_on_this_machine_speaks_for_somebody_else(
    name: str, ingest: Ingest
) -> None:
    assert await status(ingest, **{name: "127.0.0.1"}) == 401
    assert await over_grpc(ingest, **{name: "127.0.0.1"}) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_that_is_revoked_speaks_for_nobody(local: tuple[Ingest, str]) -> None:
    ingest, key_id = local
    engine = open_database(ingest.settings.database_url)
    with engine.connect() as connection:
        (org_id,) = connection.exec_driver_sql(
            "SELECT org_id FROM api_keys WHERE key_id = ?", (key_id,)
        ).one()
    revoke_key(engine, org_id, key_id)
    engine.dispose()

    async def refused() -> bool:
        return await status(ingest) == 401

    await until(refused)


async def test_batches_need_a_key_all_the_same(ingest: Ingest) -> None:
    answer = await ingest.client.post(BATCHES, content=batch_body([event()]), headers=NO_KEY)
    assert answer.status_code == 401


@pytest.mark.parametrize("setting", ["", "none"])
async def test_without_the_setting_nobody_is_let_in_without_a_key(
    setting: str, tansu: Broker, tmp_path: Path
) -> None:
    async with ingest_service(tansu.url, tmp_path, otlp_loopback_key=setting) as ingest:
        await ready(ingest)
        assert await status(ingest) == 401
        assert await over_grpc(ingest) is grpc.StatusCode.UNAUTHENTICATED
