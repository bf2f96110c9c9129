"""What goes out together, after all has been read, keeps its order and is neither lost nor sent too late."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from uvicorn import Config
from uvicorn.server import ServerState

from infra.proxied import bare
from infra.raw_upstream import RawUpstream, ok
from infra.upstream_exchange import HEADERS, read, talking
from infra.waiting import until
from tokentide_proxy.client_connection import AT_ONCE, ClientConnection, client_connections
from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.client_heads import ClientLimits
from tokentide_proxy.outgoing import Outgoing
from tokentide_proxy.response import Response
from tokentide_proxy.upstream_request import wire_request

FIRST, SECOND = bare(b"GET", b"/v1/first"), bare(b"GET", b"/v1/second")
LAST = bare(b"GET", b"/v1/last", (b"Connection", b"close"))


def _answer(cycle: Cycle) -> bool:
    cycle.answer(200, [(b"content-length", b"%d" % len(cycle.target))], cycle.target)
    return True


@asynccontextmanager
async def connected(
    answer: Callable[[Cycle], bool] = _answer,
) -> AsyncIterator[tuple[ClientConnection, asyncio.StreamReader]]:
    """A client's connection, and what the client reads."""
    config = Config(lambda _scope: None, log_config=None)
    config.load()
    made = client_connections(ClientLimits())(
        config=config, server_state=ServerState(), app_state={AT_ONCE: answer}
    )
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: made, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield made, reader
    finally:
        made.transport.abort()
        writer.close()
        await writer.wait_closed()


async def test_answers_to_requests_that_follow_each_other_go_out_in_their_order() -> None:
    async with connected() as (connection, reader):
        for request in (FIRST, SECOND, LAST):
            connection.data_received(request)
        told = await reader.read()
    places = [told.find(target) for target in (b"/v1/first", b"/v1/second", b"/v1/last")]
    assert places == sorted(places)
    assert told.count(b"HTTP/1.1 200 OK") == 3


async def test_an_answer_goes_out_before_the_refusal_of_what_follows_it() -> None:
    async with connected() as (connection, reader):
        connection.data_received(FIRST)
        connection.data_received(b"no request\r\n\r\n")
        told = await reader.read()
    assert told.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 400" in told


async def test_an_answer_goes_out_before_a_server_that_ends_closes_its_connection() -> None:
    async with connected() as (connection, reader):
        connection.data_received(FIRST)
        connection.shutdown()
        assert (await reader.read()).endswith(b"/v1/first")


async def test_an_answer_goes_out_to_a_client_that_has_said_that_it_sends_no_more() -> None:
    async with connected() as (connection, reader):
        connection.data_received(FIRST)
        assert connection.eof_received() is None  # the event loop closes then, as asyncio and uvloop do
        connection.transport.close()
        assert (await reader.read()).endswith(b"/v1/first")


async def test_an_answer_to_a_client_that_has_left_is_sent_to_nobody() -> None:
    async with connected() as (connection, reader):
        connection.data_received(FIRST)
        connection.transport.abort()
        assert await _all_of(reader) == b""


async def test_one_turn_writes_for_all_and_the_next_ones_are_for_the_next() -> None:
    written: list[str] = []
    outgoing, loop = Outgoing(), asyncio.get_running_loop()

    class Once:
        def __init__(self, name: str) -> None:
            self._name = name

        def write_now(self) -> None:
            written.append(self._name)
            if self._name == "b":
                outgoing.soon(Once("c"), loop)

    for name in "ab":
        outgoing.soon(Once(name), loop)
    assert written == []
    await until(lambda: written == ["a", "b", "c"])


class _Asker:
    def __init__(self) -> None:
        self.error: BaseException | None = None

    def answered(self, response: Response) -> None:
        raise AssertionError("it was given up")

    def unanswered(self, error: BaseException) -> None:
        self.error = error


class _Taking:
    status = 0

    def answered(self, response: Response) -> None:
        self.status = response.status

    def unanswered(self, error: BaseException) -> None:
        raise AssertionError(error)


async def test_a_request_that_is_given_up_before_it_went_out_is_never_sent() -> None:
    upstream = RawUpstream([ok(b"first")], [ok(b"second")])
    async with talking(upstream) as (client, where):
        assert (await read(await client.send(where, b"GET", b"/1", HEADERS))).body == b"first"
        asker = _Asker()
        connection = client.at_once(where, wire_request(b"POST", b"/2", HEADERS, b"body"), asker)
        assert connection is not None
        connection.abort()
        assert asker.error is not None
        assert (await read(await client.send(where, b"GET", b"/3", HEADERS))).body == b"second"
    assert [request.head.split()[1] for request in upstream.requests] == [b"/1", b"/3"]


async def test_an_answer_that_came_before_its_request_went_out_ends_the_connection() -> None:
    upstream = RawUpstream([ok(b"first")], [ok(b"third")])
    async with talking(upstream) as (client, where):
        assert (await read(await client.send(where, b"GET", b"/1", HEADERS))).body == b"first"
        asker = _Taking()
        connection = client.at_once(where, wire_request(b"POST", b"/2", HEADERS, b"body"), asker)
        assert connection is not None
        connection.data_received(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        assert asker.status == 408
        assert client.idle_connections == 0
        assert (await read(await client.send(where, b"GET", b"/3", HEADERS))).body == b"third"
    assert [request.head.split()[1] for request in upstream.requests] == [b"/1", b"/3"]


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
