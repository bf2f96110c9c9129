"""`tokentide mcp --http`: whose key answers which request, as the SDK's own client over HTTP sees it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer

from infra.process import bound_to_us
from infra.query_stub import KEY, QueryStub
from tokentide.connection import Connection
from tokentide.failures import Exit, Failure
from tokentide.mcp_http import Place, application, connection_of_request, place_of, with_its_key
from tokentide.mcp_server import server

from .conftest import Run

HERE = Place("127.0.0.1", 8765)
EVERYWHERE = Place("0.0.0.0", 8765)
URL = "http://127.0.0.1:8765/mcp"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture
def stub(query_stub: QueryStub) -> QueryStub:
    query_stub.answers = {"summary": {"calls": 3}}
    return query_stub


class Listening:
    """The server at a place, with clients of it."""

    def __init__(
        self, stub: QueryStub, place: Place, own_key: str = KEY, names: tuple[str, ...] = ()
    ) -> None:
        own = Connection(stub.url, own_key)
        self._server: MCPServer = server(partial(connection_of_request, own), "", [with_its_key])
        self._transport = httpx2.ASGITransport(application(self._server, place, names))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Listening]:
        async with self._server.session_manager.run():
            yield self

    def http(self, **headers: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=self._transport, headers=headers)

    @asynccontextmanager
    async def client(self, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
        async with (
            self.http(**headers) as http,
            Client(streamable_http_client(URL, http_client=http), mode=mode) as client,
        ):
            yield client

    async def status(self, url: str = URL, **headers: str) -> int:
        """Return how a bare request is answered."""
        accepted = {"accept": "application/json, text/event-stream"}
        async with self.http(**accepted, **headers) as http:
            return (await http.post(url, json=PING)).status_code


def calls(result: Any) -> Any:
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)["calls"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_request_is_answered_by_the_key_that_it_brings(stub: QueryStub, mode: str) -> None:
    async with Listening(stub, EVERYWHERE, own_key="").running() as place, AsyncExitStack() as stack:
        ann, ben = [
            await stack.enter_async_context(place.client(mode, authorization=f"Bearer tt_a_{name}"))
            for name in ("ann", "ben")
        ]
        for client in (ann, ben, ann):
            assert calls(await client.call_tool("usage_summary", {})) == 3
    assert stub.keys == ["Bearer tt_a_ann", "Bearer tt_a_ben", "Bearer tt_a_ann"]


async def test_our_own_key_serves_who_brings_none_on_this_machine_only(stub: QueryStub) -> None:
    async with Listening(stub, HERE).running() as place:
        async with place.client() as client:
            calls(await client.call_tool("usage_summary", {}))
        async with place.client(authorization="bearer tt_a_ann") as client:
            calls(await client.call_tool("usage_summary", {}))
        for not_a_key in ("Bearer", "Bearer ", "Basic eDp5", "Bearer tt_a ann", ""):
            assert await place.status(authorization=not_a_key) == 401
    assert stub.keys == [f"Bearer {KEY}", "Bearer tt_a_ann"]
    async with Listening(stub, EVERYWHERE).running() as place:
        assert await place.status() == 401
        assert await place.status(authorization="Bearer tt_a_ann") == 200
    assert len(stub.keys) == 2


async def test_what_a_key_may_not_is_told_and_our_own_does_not_step_in(stub: QueryStub) -> None:
    stub.problem = (401, {"detail": "the key is not known", "code": "unauthorized"})
    async with (
        Listening(stub, HERE).running() as place,
        place.client(authorization="Bearer tt_a_x") as client,
    ):
        result = await client.call_tool("usage_summary", {})
    assert (result.is_error, "the key is not known" in result.content[0].text) == (True, True)
    assert stub.keys == ["Bearer tt_a_x"]


async def test_a_page_whose_name_is_made_to_lead_here_is_refused(stub: QueryStub) -> None:
    async with Listening(stub, HERE, names=("usage.example.com",)).running() as place:
        assert await place.status("http://localhost:8765/mcp") == 200
        assert await place.status("http://rebound.example/mcp") == 421
        assert await place.status(origin="https://rebound.example") == 403
        assert await place.status("http://usage.example.com/mcp", origin="https://usage.example.com") == 200


def test_it_is_at_this_machines_own_address_unless_a_host_is_named() -> None:
    assert place_of("8765") == HERE
    assert (place_of("0.0.0.0:80"), place_of("[::1]:80")) == (Place("0.0.0.0", 80), Place("::1", 80))
    assert [Place(host, 1).is_loopback for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [Place(host, 1).is_loopback for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example")] == [
        False
    ] * 4
    for mistake in ("", "host", "host:", "65536", "-1", "[::1]"):
        with pytest.raises(Failure):
            place_of(mistake)


def test_the_command_says_where_it_listens_and_what_keeps_it_from_it(stub: QueryStub, tokentide: Run) -> None:
    command = bound_to_us([sys.executable, "-m", "tokentide", "mcp", "--http", "0"])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        found = re.fullmatch(r"ready  (http://127\.0\.0\.1:(\d+)/mcp)\n", said)
        assert found, said
        assert (
            httpx2.post(found[1], json={}, headers={"authorization": "x"}, trust_env=False).status_code == 401
        )
        ended = tokentide("mcp", "--http", found[2])
        running.terminate()
    assert (ended.code, "cannot listen" in ended.err) == (Exit.FAILED, True)
