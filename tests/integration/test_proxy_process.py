"""The proxy as it runs: stopped under load, and fed nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.provider_answers import anthropic_events, anthropic_message
from infra.proxied import bare, post
from infra.proxy_process import ProxyProcess
from infra.raw_upstream import Hold, RawUpstream, chunked, ok

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = anthropic_events()


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with RawUpstream([ok(anthropic_message())]) as running:
        yield running


@pytest.fixture
async def proxy(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    running = ProxyProcess(tmp_path, upstream.port)
    await running.start()
    yield running
    await running.stop()


async def test_told_to_stop_it_ends_its_streams_keeps_their_events_and_ends_well(
    proxy: ProxyProcess, upstream: RawUpstream
) -> None:
    release = asyncio.Event()
    upstream.answers = [[SSE + chunked(EVENTS[0])[:-5], Hold(release), chunked(*EVENTS[1:])]]
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        clients = [await stack.enter_async_context(proxy.connected()) for _ in range(5)]
        for client in clients:
            client.send(post(b"/v1/messages", b"{}", *proxy.headers()))
            await client.head()
            assert await client.chunk() == EVENTS[0]
        proxy.process.send_signal(signal.SIGTERM)
        release.set()
        for client in clients:
            assert (await client.everything()).endswith(EVENTS[-1] + b"\r\n0\r\n\r\n")
        assert await proxy.process.wait() == 0
    kept = b"".join(path.read_bytes() for path in proxy.spool.rglob("*") if path.is_file())
    assert kept.count(b'"output_tokens":42') == 5


async def test_restarts_under_load_fail_no_request_that_was_taken(
    proxy: ProxyProcess, upstream: RawUpstream
) -> None:
    done: list[bytes] = []

    async def keep_asking() -> None:
        while proxy.process.returncode is None:
            try:
                async with proxy.connected() as client:
                    client.send(post(b"/v1/messages", b"{}", *proxy.headers(), (b"Connection", b"close")))
                    done.append(await client.everything())
            except OSError:
                return

    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    deadline = time.monotonic() + 20
    while len(done) < 50 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    proxy.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        await asyncio.gather(*asking)
        assert await proxy.process.wait() == 0
    # A connection that was only in the listener's queue is reset, and no request of it has been read.
    taken = [answer for answer in done if answer]
    assert len(taken) >= 50
    assert all(answer.endswith(anthropic_message()) for answer in taken)
    assert len(taken) == len(upstream.requests)


async def test_nonsense_of_any_kind_breaks_nothing(proxy: ProxyProcess, upstream: RawUpstream) -> None:
    rng = random.Random(4)
    good = post(b"/v1/messages?beta=true", b'{"a":1}', *proxy.headers()) + bare(b"GET", b"/v1/models")
    pieces = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b":",
        b" ",
        b"\xff",
        b"chunked",
        b"Transfer-Encoding: chunked\r\n",
        b"0",
    ]
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.choice([rng.randbytes(1), *pieces])
        cut = rng.randrange(len(data))
        async with proxy.connected() as client, asyncio.timeout(10):
            client.send(bytes(data[:cut]))
            await asyncio.sleep(0)
            client.send(bytes(data[cut:]))
            if rng.random() < 0.5:
                client.writer.write_eof()
                await client.everything()
    async with proxy.connected() as client:
        client.send(post(b"/v1/messages", b"{}", *proxy.headers()))
        assert (await client.answer()).body == anthropic_message()
    assert {request.line.split(b" ")[0] for request in upstream.requests} >= {b"POST"}
    assert "exchange_failed" not in proxy.log()
    assert "Traceback" not in proxy.log()
