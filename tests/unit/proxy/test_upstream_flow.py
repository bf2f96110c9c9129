"""Back-pressure: a side that is slow makes the other one wait, and nothing piles up between them."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from infra.raw_upstream import Early, Hold, RawUpstream, ReadBody, ok
from infra.upstream_exchange import HEADERS, Reader, read, talking
from infra.waiting import until

MIB = 1 << 20
TOTAL = 100 * MIB
PIECE = bytes(range(256)) * 256
# What kernels hold of a connection on both of its sides, with what the two programs hold.
IN_FLIGHT = 16 * MIB


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Writing:
    """Writes an answer's body, as fast as it is taken, and counts."""

    def __init__(self, before: bytes = b"", after: bytes = b"", end: bytes = b"") -> None:
        self.written = 0
        self._piece = before + PIECE + after
        self._end = end

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        for _ in range(TOTAL // len(PIECE)):
            writer.write(self._piece)
            await writer.drain()
            self.written += len(PIECE)
        writer.write(self._end)


async def settled(value: Callable[[], int]) -> int:
    """The value, once it has stopped growing."""
    last = -1
    while last != value():
        last = value()
        await asyncio.sleep(0.1)
    return last


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"content-length: %d" % TOTAL, Writing),
        (b"transfer-encoding: chunked", partial(Writing, b"10000\r\n", b"\r\n", b"0\r\n\r\n")),
    ],
)
async def test_an_answer_of_100_mb_passes_with_flat_memory_and_waits_for_a_slow_reader(head, body) -> None:
    writing = body()
    upstream = RawUpstream([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", writing], [ok(b"next")])
    async with talking(upstream, idle_s=0.1) as (client, where):
        before = peak_bytes()
        reader = Reader(await client.send(where, b"GET", b"/", HEADERS))
        size = len(await anext(reader))
        # The reader does nothing, for longer than an upstream may be silent: but it is not silent.
        assert await settled(lambda: writing.written) < IN_FLIGHT
        await asyncio.sleep(0.2)
        async for piece in reader:
            assert len(piece) <= MIB
            size += len(piece)
        assert size == TOTAL
        assert peak_bytes() - before < IN_FLIGHT
        assert (await read(await client.send(where, b"GET", b"/", HEADERS))).body == b"next"
    assert upstream.accepts == 1


@pytest.mark.parametrize("sized", [True, False])
async def test_a_request_of_100_mb_passes_with_flat_memory_and_waits_for_a_slow_upstream(sized: bool) -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(TOTAL // len(PIECE)):
            taken += len(PIECE)
            yield PIECE

    go_on = asyncio.Event()
    upstream = RawUpstream([Early(), Hold(go_on), ReadBody(), ok(b"done")], keep_bodies=False)
    async with talking(upstream) as (client, where):
        before = peak_bytes()
        headers = [*HEADERS, (b"content-length", b"%d" % TOTAL)] if sized else HEADERS
        sending = asyncio.ensure_future(client.send(where, b"POST", b"/", headers, body()))
        await until(lambda: upstream.requests)
        assert await settled(lambda: taken) < IN_FLIGHT
        go_on.set()
        assert (await read(await sending)).body == b"done"
        assert peak_bytes() - before < IN_FLIGHT
        assert upstream.requests[0].body_bytes == TOTAL
