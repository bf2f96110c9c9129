"""Which credentials open which door: the same refusal at all of them, for whatever is wrong with a key."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import httpx
import pytest
from litestar.testing import AsyncTestClient

from infra.accounts_people import SECRET, People
from infra.query_client import NOW
from infra.sqlite import migrated_sqlite
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key, revoke_key
from tokentide_common.database import Engine, open_database
from tokentide_common.keys import KeyKind, mint_key
from tokentide_common.serving import serving
from tokentide_common.store import Store
from tokentide_ingest.app import create_app as create_ingest
from tokentide_ingest.settings import IngestSettings
from tokentide_proxy.app import create_app as create_proxy
from tokentide_proxy.app import serving_options
from tokentide_proxy.settings import ProxySettings
from tokentide_query_api.app import create_app as create_query_api
from tokentide_query_api.settings import QuerySettings

NOWHERE = "kafka://127.0.0.1:1"
GRPC_LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
Door = Callable[[str], Awaitable[str]]
"""Knocks with a credential and returns the code of the refusal; of who was let in, that of a bad question."""

# Which kinds of keys open it.
KINDS: dict[str, tuple[KeyKind, ...]] = {
    "ingest": ("m", "a"),
    "otlp over http": ("m", "a"),
    "otlp over grpc": ("m", "a"),
    "proxy": ("p",),
    "query api": ("a",),
}


def changed(key: str) -> str:
    """Return a key with another character in its middle."""
    return key[:-10] + ("1" if key[-10] == "0" else "0") + key[-9:]


class Keys:
    """Good keys of each kind, and everything that is none, by what is wrong with it."""

    def __init__(self, engine: Engine) -> None:
        org_id = create_organization(engine, "A")
        kinds: tuple[KeyKind, ...] = ("m", "p", "a")
        self.good = {kind: issue_key(engine, org_id, kind)[0] for kind in kinds}
        self.revoked = {}
        for kind in kinds:
            self.revoked[kind], record = issue_key(engine, org_id, kind)
            revoke_key(engine, org_id, record.key_id)
        self.expired = {
            kind: issue_key(engine, org_id, kind, expires_at=time.time() - 1)[0] for kind in kinds
        }
        self.people = People(engine, now=NOW)
        self.member = self.people.join(org_id, "owner")

    def bad(self, kinds: tuple[KeyKind, ...]) -> dict[str, str]:
        """Return what must not open a door that these kinds open."""
        kind = kinds[0]
        others = [k for k in self.good if k not in kinds]
        header, payload, signature = self.member.token.split(".")
        return {
            "no key": "",
            "unknown": mint_key(kind)[0],
            "malformed": "tt_" + "x" * 50,
            "truncated": self.good[kind][:-1],
            "a character changed": changed(self.good[kind]),
            "other case": self.good[kind].swapcase(),
            "revoked": self.revoked[kind],
            "expired": self.expired[kind],
            "a digest": "0" * 64,
            "an injection": "' OR 1=1 --",
            "very long": "tt_" + "a" * 5_000,
            **{f"of kind {other}": self.good[other] for other in others},
            "a token without algorithm": f"eyJhbGciOiJub25lIn0.{payload}.",
            "a token with another signature": f"{header}.{payload}.{signature[::-1]}",
            "a token of another key": People(self.people.engine, secret="o" * 40, now=NOW)
            .session(self.member)
            .token,
        }


@contextlib.asynccontextmanager
async def doors(engine: Engine, url: str, folder: Path) -> AsyncIterator[dict[str, Door]]:
    ingest_settings = IngestSettings(
        broker_url=NOWHERE, database_url=url, ingest_port=0, otlp_grpc_port=0, otlp_loopback_key="none"
    )
    proxy_settings = ProxySettings(
        broker_url=NOWHERE, database_url=url, secret_key=SECRET, proxy_loopback_key="none",
        proxy_spool_dir=str(folder / "spool"), proxy_upstreams=("anthropic=anthropic+http://127.0.0.1:1",),
    )  # fmt: skip
    ingest, proxy = create_ingest(ingest_settings), create_proxy(proxy_settings)
    query = create_query_api(
        QuerySettings(secret_key=SECRET),
        store=Store("clickhouse://127.0.0.1:9/away"),  # nothing here needs it
        engine=engine,
        clock=lambda: NOW,
    )
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        at_ingest = await enter(serving(ingest, host="127.0.0.1", port=0))
        at_proxy = await enter(
            serving(proxy, host="127.0.0.1", port=0, options=serving_options(proxy_settings))
        )
        http = await enter(httpx.AsyncClient(trust_env=False, timeout=30))
        asking = await enter(AsyncTestClient(query))
        channel = await enter(grpc.aio.insecure_channel(f"127.0.0.1:{ingest.state.otlp_grpc_port}"))

        async def post(url: str, headers: dict[str, str], media_type: str) -> str:
            answer = await http.post(url, headers={**headers, "content-type": media_type}, content=b"{]")
            if answer.headers["content-type"].startswith("application/problem+json"):
                return str(answer.json()["code"])
            # Telemetry and providers have forms of their own.
            return "unauthorized" if answer.status_code == 401 else str(answer.status_code)

        async def grpc_logs(secret: str) -> str:
            try:
                metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
                await channel.unary_unary(GRPC_LOGS)(b"\xff", metadata=metadata, timeout=30)
            except grpc.aio.AioRpcError as error:
                return (error.details() or "").partition(":")[0]
            return "let in"

        async def query_api(secret: str) -> str:
            answer = await asking.get("/api/v1/usage/summary?no=such", headers=bearer(secret))
            return str(answer.json()["code"])

        yield {
            "ingest": lambda s: post(
                f"http://127.0.0.1:{at_ingest}/api/v1/cli/batches", bearer(s), "application/json"
            ),
            "otlp over http": lambda s: post(
                f"http://127.0.0.1:{at_ingest}/v1/logs", bearer(s), "application/json"
            ),
            "otlp over grpc": grpc_logs,
            "proxy": lambda s: post(
                f"http://127.0.0.1:{at_proxy}/v1/messages",
                through(s),
                "application/json",
            ),
            "query api": query_api,
        }


def through(secret: str) -> dict[str, str]:
    """Return the headers of a client that has a provider's key of its own."""
    return {"x-api-key": "sk-ant-own"} | ({"x-tokentide-key": secret} if secret else {})


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"} if secret else {}


async def test_every_door_refuses_whatever_is_no_good_key_in_one_way(tmp_path: Path) -> None:
    url = migrated_sqlite(tmp_path / "accounts.db")
    engine = open_database(url)
    keys = Keys(engine)
    async with doors(engine, url, tmp_path) as opened:
        wrong = []
        for name, knock in opened.items():
            for kind in KINDS[name]:
                await until(lambda kind=kind, knock=knock: _opens(knock, keys.good[kind]), what=name)
            for what, secret in keys.bad(KINDS[name]).items():
                told = await knock(secret)
                if told != "unauthorized":
                    wrong.append((name, what, told))
        assert wrong == []
    engine.dispose()


async def _opens(knock: Door, secret: str) -> bool:
    return await knock(secret) not in ("unauthorized", "keys_unavailable", "unavailable")


async def test_a_key_that_is_revoked_is_refused_at_every_door_within_five_seconds(tmp_path: Path) -> None:
    url = migrated_sqlite(tmp_path / "accounts.db")
    engine = open_database(url)
    org_id = create_organization(engine, "A")
    made = {kind: issue_key(engine, org_id, kind) for kind in ("m", "p", "a")}
    async with doors(engine, url, tmp_path) as opened:
        for name, knock in opened.items():
            await until(lambda name=name, knock=knock: _opens(knock, made[KINDS[name][0]][0]))
        for _, record in made.values():
            revoke_key(engine, org_id, record.key_id)
        revoked_at = time.monotonic()
        for name, knock in opened.items():

            async def refused(name: str = name, knock: Door = knock) -> bool:
                return await knock(made[KINDS[name][0]][0]) == "unauthorized"

            await until(refused, within_s=5, what=name)
        assert time.monotonic() - revoked_at < 5
    engine.dispose()


@pytest.mark.parametrize("privileged", ["owner", "admin"])
async def test_a_key_of_one_organisation_opens_nothing_of_another(tmp_path: Path, privileged: str) -> None:
    url = migrated_sqlite(tmp_path / "accounts.db")
    engine = open_database(url)
    people = People(engine, now=NOW)
    theirs = create_organization(engine, "B")
    key = issue_key(engine, theirs, "a")[1]
    stranger = people.join(create_organization(engine, "A"), privileged)
    app = create_query_api(
        QuerySettings(secret_key=SECRET),
        store=Store("clickhouse://127.0.0.1:9/away"),
        engine=engine,
        clock=lambda: NOW,
    )
    async with AsyncTestClient(app) as asking:
        for path in (f"/keys/{key.key_id}", f"/organisations/{theirs}", "/keys/key_nobody"):
            answer = await asking.get(f"/api/v1{path}", headers=bearer(stranger.token))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    engine.dispose()
