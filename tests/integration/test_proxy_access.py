"""The whole proxy with its database: whose key it is, and whose key the provider gets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from infra.provider_answers import anthropic_message
from infra.raw_upstream import RawUpstream, ok
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key, revoke_key
from tokentide_common.accounts_schema import budget_stops, budgets
from tokentide_common.database import Engine, open_database, writing
from tokentide_common.provider_credentials import Vault, keep_credential
from tokentide_common.serving import serving
from tokentide_proxy.app import create_app, serving_options
from tokentide_proxy.settings import ProxySettings

SECRET = "s" * 40
PROVIDER_KEY = "sk-ant-api03-of-the-organisation"


@dataclass
class World:
    engine: Engine
    org_id: str
    key: str
    key_id: str
    upstream: RawUpstream
    settings: ProxySettings
    http: httpx.AsyncClient

    async def ask(self, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v1/messages", content=b"{}", headers=sent)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    # There is no broker here: whoever stops would wait for it in vain.
    monkeypatch.setattr("tokentide_proxy.app._TAP_DRAIN_S", 0.1)
    url = migrated_sqlite(tmp_path / "accounts.db")
    engine = open_database(url)
    org_id = create_organization(engine, "o")
    key, record = issue_key(engine, org_id, "p", user_id="dev")
    keep_credential(engine, Vault(SECRET), org_id, "anthropic", PROVIDER_KEY)
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RawUpstream([ok(anthropic_message())]))
        settings = ProxySettings(
            database_url=url,
            secret_key=SECRET,
            broker_url="kafka://127.0.0.1:1",
            proxy_spool_dir=str(tmp_path / "spool"),
            proxy_upstreams=(f"anthropic=anthropic+http://127.0.0.1:{upstream.port}",),
        )
        port = await stack.enter_async_context(
            serving(create_app(settings), host="127.0.0.1", port=0, options=serving_options(settings))
        )
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        await stack.enter_async_context(http)
        yield World(engine, org_id, key, record.key_id, upstream, settings, http)
    engine.dispose()


def use_up_a_budget(world: World) -> None:
    made = {"budget_id": "b", "org_id": world.org_id, "name": "all", "scope": "organisation", "amount": 9}
    made |= {"period": "monthly", "unit": "usd", "thresholds": "[]", "channels": b"", "hard_stop": True}
    until_s = int(time.time()) + 100
    with writing(world.engine) as connection:
        connection.execute(sa.insert(budgets).values(created_at=datetime.now(UTC), **made))
        connection.execute(sa.insert(budget_stops).values(budget_id="b", until_s=until_s, used=9))


async def test_a_managed_key_is_replaced_by_the_organisations(world: World) -> None:
    for headers in ({"x_api_key": world.key}, {"authorization": f"Bearer {world.key}"}):
        assert (await world.ask(**headers)).status_code == 200
        request = world.upstream.requests[-1]
        assert request.header(b"x-api-key") == PROVIDER_KEY.encode()
        assert request.header(b"authorization") is None
        assert world.key.encode() not in request.head


async def test_a_clients_own_credentials_go_on_untouched(world: World) -> None:
    answer = await world.ask(x_tokentide_key=world.key, authorization="Bearer sk-ant-oat01-subscription")
    assert answer.status_code == 200
    head = world.upstream.requests[0].head
    assert b"authorization: Bearer sk-ant-oat01-subscription" in head
    assert world.key.encode() not in head
    assert PROVIDER_KEY.encode() not in head


async def test_without_a_key_nobody_is_asked(world: World) -> None:
    answer = await world.ask(x_api_key="sk-ant-somebody")
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert world.upstream.requests == []


async def test_a_revoked_key_is_refused_within_five_seconds(world: World) -> None:
    assert (await world.ask(x_api_key=world.key)).status_code == 200
    revoke_key(world.engine, world.org_id, world.key_id)

    async def refused() -> bool:
        return (await world.ask(x_api_key=world.key)).status_code == 401

    await until(refused, within_s=5)


async def test_a_budget_used_up_meanwhile_stops_a_client_that_goes_on_with_the_same_head(
    world: World,
) -> None:
    assert (await world.ask(x_api_key=world.key)).status_code == 200
    assert (await world.ask(x_api_key=world.key)).status_code == 200
    use_up_a_budget(world)

    async def refused() -> bool:
        return (await world.ask(x_api_key=world.key)).status_code == 429

    await until(refused, within_s=5)


async def test_a_used_up_budget_is_told_in_the_words_of_each_provider_and_asks_none(world: World) -> None:
    use_up_a_budget(world)
    told, sent = [], {"x-tokentide-key": world.key, "authorization": "Bearer theirs"}
    app, options = create_app(world.settings), serving_options(world.settings)
    async with serving(app, host="127.0.0.1", port=0, options=options) as port:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False, headers=sent) as http:
            for path in ("/v1/messages", "/openai/v1/responses", "/gemini/v1beta/models/m:generateContent"):
                answer = await http.post(path, content=b"{}")
                assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
                assert answer.headers["x-tokentide-error"] == "budget_used_up"
                assert 90 <= int(answer.headers["retry-after"]) <= 100
                told.append(answer.json())
            assert world.upstream.requests == []
            assert (await http.get("/v1/models")).status_code == 200, "what only reads passes"
    assert (told[0]["type"], told[0]["error"]["type"]) == ("error", "rate_limit_error")
    assert (told[1]["error"]["type"], told[1]["error"]["code"]) == ("insufficient_quota", "budget_used_up")
    assert (told[2]["error"]["code"], told[2]["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")


async def test_traffic_goes_on_and_events_wait_on_disk_with_the_broker_away(world: World) -> None:
    answers = await asyncio.gather(*(world.ask(x_api_key=world.key) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    spool = Path(world.settings.proxy_spool_dir)

    def on_disk() -> bool:
        return sum(path.stat().st_size for path in spool.rglob("*") if path.is_file()) > 20 * 100

    await until(on_disk)
    assert not any(PROVIDER_KEY.encode() in path.read_bytes() for path in spool.rglob("*") if path.is_file())
