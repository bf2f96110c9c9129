"""Who waits for an upstream, and how long: who leaves, who is away, and who does not go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from infra.raw_upstream import Early, Hold, Pause, RawUpstream, Stall, ok
from infra.upstream_exchange import HEADERS, Reader, named, pieces, read, talking, upstream_client
from infra.waiting import until
from tokentide_proxy.connection import Connection
from tokentide_proxy.outgoing import Outgoing
from tokentide_proxy.pool import Pool
from tokentide_proxy.response import Response
from tokentide_proxy.upstream_errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from tokentide_proxy.upstream_limits import UpstreamLimits
from tokentide_proxy.upstream_request import wire_request


async def test_a_reader_that_leaves_is_seen_upstream_within_100_ms() -> None:
    upstream = RawUpstream([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", Stall()])
    async with talking(upstream) as (client, where):
        response = await client.send(where, b"GET", b"/", HEADERS)
        reader = Reader(response)
        assert await anext(reader) == b"a"
        response.abort()
        async with asyncio.timeout(0.1):
            await upstream.gone.wait()
        with pytest.raises(UpstreamBroken):
            await anext(reader)


@pytest.mark.parametrize("sending_still", [True, False])
async def test_who_stops_waiting_for_an_answer_leaves_no_connection(sending_still: bool) -> None:
    upstream = RawUpstream([Early(), Stall()])
    async with talking(upstream) as (client, where):
        body = pieces(b"a", after=asyncio.Event()) if sending_still else b"a"
        sending = asyncio.ensure_future(client.send(where, b"POST", b"/", HEADERS, body))
        await until(lambda: upstream.requests)
        sending.cancel()
        async with asyncio.timeout(0.1):
            await upstream.gone.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        await until(lambda: client.connections == 0)


async def test_stopping_ends_what_is_open_and_tells_who_waits() -> None:
    upstream = RawUpstream([ok()], [Stall()])
    async with upstream, upstream_client() as client:
        where = named(upstream.port)
        await read(await client.send(where, b"GET", b"/", HEADERS))
        sending = asyncio.ensure_future(client.send(where, b"GET", b"/", HEADERS))
        await until(lambda: len(upstream.requests) == 2)
        await client.stop()
        with pytest.raises(UpstreamBroken):
            await sending
        assert (client.connections, upstream.accepts) == (0, 1)


async def test_nobody_at_the_port_is_unreachable() -> None:
    async with RawUpstream([ok()]) as upstream:
        port = upstream.port
    async with upstream_client() as client:
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send(named(port), b"GET", b"/", HEADERS)
    assert caught.value.word == "upstream_unreachable"


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"first_byte_s": 0.05}, []),
        ({"first_byte_s": 0.05}, [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"]),
    ],
)
async def test_an_upstream_that_does_not_begin_is_given_up(
    limits: dict[str, float], steps: list[bytes]
) -> None:
    upstream = RawUpstream([*steps, Stall()])
    async with talking(upstream, **limits) as (client, where):
        with pytest.raises(UpstreamTimeout) as caught:
            await client.send(where, b"POST", b"/", HEADERS, b"1")
        assert caught.value.word == "upstream_timeout"
        await upstream.gone.wait()


async def test_an_upstream_that_stalls_in_its_answer_is_given_up_and_what_came_is_read() -> None:
    upstream = RawUpstream([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Stall()])
    async with talking(upstream, idle_s=0.05) as (client, where):
        seen = await read(await client.send(where, b"GET", b"/", HEADERS))
        assert (seen.body, type(seen.error)) == (b"half", UpstreamTimeout)
        await upstream.gone.wait()


async def test_an_upstream_that_takes_no_body_is_given_up() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    never = asyncio.Event()
    upstream = RawUpstream([Early(), Hold(never)])
    async with talking(upstream, idle_s=0.1) as (client, where):
        with pytest.raises(UpstreamTimeout):
            await client.send(where, b"POST", b"/", HEADERS, endless())


async def test_a_slow_model_and_a_slow_client_are_no_reason_to_give_up() -> None:
    slow = asyncio.Event()
    upstream = RawUpstream([Pause(0.2), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"o", b"k"])
    async with talking(upstream, idle_s=0.05, first_byte_s=5) as (client, where):
        asyncio.get_running_loop().call_later(0.2, slow.set)
        response = await client.send(where, b"POST", b"/", HEADERS, pieces(b"a", after=slow))
        assert (await read(response)).body == b"ok"


class Wire(asyncio.Transport):
    """Takes what a connection writes, and whoever asked over it takes the answer."""

    def __init__(self) -> None:
        self.body = b""
        self.chunks = 0
        self.error: BaseException | None = None

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def answered(self, response: Response) -> None:
        response.pass_on(self, self.over)

    def unanswered(self, error: BaseException) -> None:
        raise AssertionError(error)

    def take(self, piece: bytes, *, last: bool) -> bool:
        self.body += piece
        return True

    def take_chunk(self, chunk: bytes, start: int) -> bool:
        self.chunks += 1
        return self.take(chunk[start:-2], last=False)

    def over(self, error: BaseException | None) -> None:
        self.error = error


async def test_chunks_that_are_not_read_keep_an_answer_alive_and_no_longer_than_others() -> None:
    limits, wire = UpstreamLimits(idle_s=10), Wire()
    connection = Connection(
        ("http", "a", 1, True), Pool(limits), limits, asyncio.get_running_loop(), Outgoing()
    )
    connection.connection_made(wire)
    connection.exchange(wire_request(b"GET", b"/", HEADERS, b""), wire)
    connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
    now = monotonic()
    for _ in range(3):
        connection.data_received(b"1\r\na\r\n")
        connection.check(now := now + 9)
    connection.check(now + 9)
    assert (wire.body, wire.chunks, wire.error) == (b"aaaa", 3, None)
    connection.check(now + 11)
    assert isinstance(wire.error, UpstreamTimeout)
