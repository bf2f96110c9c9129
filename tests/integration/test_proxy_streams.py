"""Bodies of any size go through with the memory of small ones, and the slower side sets the pace."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from infra.provider_answers import anthropic_message
from infra.proxied import Proxied, bare, proxied
from infra.raw_upstream import Early, Hold, RawUpstream, ReadBody, ok
from infra.waiting import until

MIB = 1 << 20
SIZE = 100 * MIB
PIECE = b"x" * (1 << 16)
CHUNK = b"10000\r\n" + PIECE + b"\r\n"
START = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
DOWN = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"


class Memory:
    """The most that the process has taken more than at the beginning."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.growth = 0

    def look(self) -> None:
        self.growth = max(self.growth, self._process.memory_info().rss - self._before)


async def _upload(proxy: Proxied, framing: bytes, piece: bytes, end: bytes, memory: Memory) -> int:
    async with proxy.connected() as client, asyncio.timeout(60):
        client.send(START + framing + b"\r\n\r\n")
        for number in range(SIZE // len(PIECE)):
            client.send(piece)
            await client.writer.drain()
            if number % 64 == 0:
                memory.look()
        client.send(end)
        return (await client.answer()).status


@pytest.mark.parametrize(
    ("framing", "piece", "end"),
    [
        (b"Content-Length: %d" % SIZE, PIECE, b""),
        (b"Transfer-Encoding: chunked", CHUNK, b"0\r\n\r\n"),
    ],
    ids=["length", "chunks"],
)
async def test_a_hundred_megabytes_go_up_in_the_memory_of_a_few(
    framing: bytes, piece: bytes, end: bytes
) -> None:
    async with proxied(RawUpstream([ok(anthropic_message())], keep_bodies=False)) as proxy:
        memory = Memory()
        assert await _upload(proxy, framing, piece, end, memory) == 200
        assert (await proxy.event()).status == "ok"
    assert proxy.upstream.requests[0].body_bytes == SIZE
    assert memory.growth < 32 * MIB


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_hundred_megabytes_come_down_in_the_memory_of_a_few(framing: str) -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        for _ in range(SIZE // len(PIECE)):
            writer.write(PIECE if framing == "length" else CHUNK)
            await writer.drain()

    head = DOWN + (
        b"content-length: %d\r\n\r\n" % SIZE if framing == "length" else b"transfer-encoding: chunked\r\n\r\n"
    )
    end = [] if framing == "length" else [b"0\r\n\r\n"]
    async with proxied(RawUpstream([head, pour, *end])) as proxy:
        memory = Memory()
        async with proxy.connected() as client, asyncio.timeout(60):
            client.send(bare(b"GET", b"/v1/files/1/content"))
            await client.head()
            read = 0
            while read < SIZE:
                read += len(await client.reader.read(MIB))
                memory.look()
    assert memory.growth < 32 * MIB


async def test_a_slow_reader_slows_the_provider_down() -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(CHUNK)
            await writer.drain()
            poured.append(len(PIECE))

    poured: list[int] = []
    upstream = RawUpstream([DOWN + b"transfer-encoding: chunked\r\n\r\n", pour])
    async with proxied(upstream) as proxy, proxy.connected() as client:
        client.writer.transport.pause_reading()
        client.send(bare(b"GET", b"/v1/files/1/content"))
        held = await until(lambda: _still(poured), within_s=10)
        # The buffers of two connections in the kernel, and ours.
        assert held < 24 * MIB
        client.writer.transport.resume_reading()
        async with asyncio.timeout(10):
            while sum(poured) == held:
                await client.reader.read(MIB)


async def test_a_slow_provider_slows_the_client_down() -> None:
    go_on = asyncio.Event()
    upstream = RawUpstream([Early(), Hold(go_on), ReadBody(), ok()], keep_bodies=False)
    sent: list[int] = []

    async def send_on() -> None:
        for _ in range(SIZE // len(PIECE)):
            client.send(PIECE)
            await client.writer.drain()
            sent.append(len(PIECE))

    async with proxied(upstream) as proxy, proxy.connected() as client:
        client.send(START + b"Content-Length: %d\r\n\r\n" % SIZE)
        sending = asyncio.create_task(send_on())
        held = await until(lambda: _still(sent), within_s=10)
        assert held < 24 * MIB
        go_on.set()
        await sending
        async with asyncio.timeout(30):
            assert (await client.answer()).status == 200
    assert upstream.requests[0].body_bytes == SIZE


async def _still(moved: list[int]) -> int:
    """How much has moved, once nothing moves any more."""
    before = sum(moved)
    await asyncio.sleep(0.2)
    return before if before and sum(moved) == before else 0
