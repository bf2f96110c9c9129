"""Whatever breaks on the way: the client sees what there is, never a made-up end, and the event says so."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from infra.provider_answers import anthropic_events
from infra.proxied import bare, post, proxied
from infra.raw_upstream import (
    Close,
    Early,
    Hold,
    Pause,
    RawUpstream,
    ReadBody,
    Reset,
    Stall,
    chunked,
    ok,
    streamed,
)
from infra.waiting import until
from tokentide_proxy.client_heads import ClientLimits
from tokentide_proxy.upstream_limits import UpstreamLimits

REQUEST = post(b"/v1/messages", b'{"model":"claude-sonnet-5","stream":true}')
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"
CHUNKED = SSE + b"transfer-encoding: chunked\r\n\r\n"
EVENTS = anthropic_events()
PATHS = {
    "anthropic": b"/v1/messages",
    "openai": b"/openai/v1/chat/completions",
    "gemini": b"/gemini/v1beta/models/gemini-3:generateContent",
}


def chunks(*pieces: bytes) -> bytes:
    return chunked(*pieces).removesuffix(b"0\r\n\r\n")


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked\r\n\r\n", b"content-length: 9999\r\n\r\n"])
async def test_an_answer_that_breaks_off_breaks_off_for_the_client(
    end: Close | Reset, framing: bytes
) -> None:
    body = b"".join(EVENTS[:3])
    sent = chunks(body) if b"chunked" in framing else body
    async with proxied(RawUpstream([SSE + framing + sent, Pause(0.05), end])) as proxy:
        answer = await proxy.ask(REQUEST)
        event = await proxy.event()
    assert (answer.body, answer.whole) == (body, False)
    assert (event.status, event.error_type, event.http_status) == ("aborted", "upstream_broken", 200)
    assert (event.call_id, event.input_tokens, event.output_tokens) == ("req_1", 11, 1)


async def test_an_answer_that_stalls_is_cut_and_is_a_lower_bound() -> None:
    upstream = RawUpstream([CHUNKED + chunks(*EVENTS[:2]), Stall()])
    async with proxied(upstream, limits=UpstreamLimits(idle_s=0.2)) as proxy:
        answer = await proxy.ask(REQUEST)
        event = await proxy.event()
    assert (answer.body, answer.whole) == (b"".join(EVENTS[:2]), False)
    assert (event.status, event.error_type, event.input_tokens) == ("aborted", "upstream_timeout", 11)


async def test_garbage_within_the_framing_cuts_the_answer() -> None:
    async with proxied(RawUpstream([CHUNKED + chunks(EVENTS[0]) + b"zz\r\nnot a chunk"])) as proxy:
        answer = await proxy.ask(REQUEST)
        assert (await proxy.event()).status == "aborted"
    assert (answer.body, answer.whole) == (EVENTS[0], False)


async def test_a_stream_that_ends_before_its_last_event_is_a_lower_bound() -> None:
    async with proxied(RawUpstream([CHUNKED + chunked(*EVENTS[:3])])) as proxy:
        answer = await proxy.ask(REQUEST)
        event = await proxy.event()
    assert (answer.body, answer.whole) == (b"".join(EVENTS[:3]), True)
    assert (event.status, event.error_type, event.output_tokens) == ("aborted", "answer_unfinished", 1)


async def test_an_error_within_a_stream_passes_and_is_named() -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    async with proxied(RawUpstream([CHUNKED + chunked(*EVENTS[:2], error)])) as proxy:
        answer = await proxy.ask(REQUEST)
        event = await proxy.event()
    assert (answer.body, answer.whole) == (b"".join([*EVENTS[:2], error]), True)
    assert (event.status, event.error_type, event.input_tokens) == ("aborted", "overloaded_error", 11)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        ([Close()], 502, "upstream_broken"),
        ([Reset()], 502, "upstream_broken"),
        ([b"SMTP ready\r\n\r\n"], 502, "upstream_broken"),
        ([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n"], 502, "upstream_broken"),
        ([b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"], 502, "upstream_broken"),
        ([Stall()], 504, "upstream_timeout"),
    ],
)
async def test_no_answer_is_told_in_the_words_of_the_dialect(
    dialect: str, answer: list[object], status: int, word: str
) -> None:
    upstream = RawUpstream(answer)  # type: ignore[arg-type]  # a list of steps
    async with proxied(upstream, limits=UpstreamLimits(first_byte_s=0.2)) as proxy:
        told = await proxy.ask(post(PATHS[dialect], b'{"model":"some-model"}'))
        event = await proxy.event()
    assert (told.status, told.header(b"x-tokentide-error")) == (status, word.encode())
    error = json.loads(told.body)["error"]
    assert error["message"].startswith("Tokentide: ")
    assert {"anthropic": "type", "openai": "code", "gemini": "status"}[dialect] in error
    assert (event.status, event.http_status, event.error_type) == ("error", status, word)
    assert (event.output_tokens, event.key_id) == (0, "key_1")


async def test_an_upstream_that_is_not_there_is_told_at_once() -> None:
    upstream = RawUpstream([ok()])
    async with proxied(upstream) as proxy:
        await upstream.stop()
        told = await proxy.ask(REQUEST)
        event = await proxy.event()
    assert (told.status, told.header(b"x-tokentide-error")) == (502, b"upstream_unreachable")
    assert (event.status, event.error_type) == ("error", "upstream_unreachable")


async def test_two_calls_that_got_no_answer_are_two_calls() -> None:
    async with proxied(RawUpstream([Close()])) as proxy:
        await proxy.ask(REQUEST)
        await proxy.ask(REQUEST)
        await until(lambda: len(proxy.events) == 2)
    assert len({event.call_id for event in proxy.events}) == 2


async def test_a_client_that_leaves_ends_the_call_at_the_provider_at_once() -> None:
    hold = asyncio.Event()
    async with proxied(RawUpstream([CHUNKED, Pause(0.02), chunks(EVENTS[0]), Hold(hold)])) as proxy:
        async with proxy.connected() as client:
            client.send(REQUEST)
            await client.head()
            assert await client.chunk() == EVENTS[0]
            await until(lambda: proxy.upstream.requests)
            left_at = time.monotonic()
            client.leave()
            event = await proxy.event()
            # That the event is there means that the connection to the provider is closed already.
            assert time.monotonic() - left_at < 0.1
        await until(lambda: proxy.client.connections == 0, within_s=0.1)
        hold.set()
    assert (event.status, event.error_type, event.http_status) == ("aborted", "client_left", 200)
    assert (event.call_id, event.input_tokens, event.output_tokens) == ("req_1", 11, 1)


async def test_a_client_that_leaves_before_the_answer_ends_the_call_as_well() -> None:
    async with proxied(RawUpstream([Stall()])) as proxy, proxy.connected() as client:
        client.send(REQUEST)
        await until(lambda: proxy.upstream.requests)
        client.leave()
        async with asyncio.timeout(0.5):
            await proxy.upstream.gone.wait()
        event = await proxy.event()
    assert (event.status, event.error_type, event.http_status) == ("aborted", "client_left", 0)
    assert event.model == "claude-sonnet-5"


async def test_a_client_that_leaves_while_it_sends_leaves_no_half_request_that_counts() -> None:
    async with proxied(RawUpstream([Early(), ReadBody(), ok()])) as proxy:
        async with proxy.connected() as client:
            client.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
            await until(lambda: proxy.upstream.requests)
            client.leave()
            async with asyncio.timeout(0.5):
                await proxy.upstream.gone.wait()
        assert (await proxy.event()).error_type == "client_left"
    assert not proxy.upstream.requests[0].complete


async def test_a_client_that_leaves_with_another_request_behind_ends_both() -> None:
    async with proxied(RawUpstream([CHUNKED + chunks(EVENTS[0]), Stall()])) as proxy:
        async with proxy.connected() as client:
            client.send(REQUEST + REQUEST)
            await client.head()
            client.leave()
            async with asyncio.timeout(0.5):
                await proxy.upstream.gone.wait()
        assert (await proxy.event()).error_type == "client_left"
    assert len(proxy.upstream.requests) == 1


async def test_a_client_that_takes_nothing_for_too_long_is_let_go() -> None:
    endless = b"x" * (1 << 16)

    async def flood(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(chunks(endless))
            await writer.drain()

    async with proxied(RawUpstream([CHUNKED, flood]), client_limits=ClientLimits(idle_s=0.3)) as proxy:
        async with proxy.connected() as client:
            client.send(REQUEST)
            await client.head()
            client.writer.transport.pause_reading()
            async with asyncio.timeout(5):
                await proxy.upstream.gone.wait()
        assert (await proxy.event()).error_type == "client_left"


async def test_live_streams_end_before_the_proxy_does() -> None:
    release = asyncio.Event()
    upstream = RawUpstream([CHUNKED + chunks(EVENTS[0]), Hold(release), chunked(*EVENTS[1:])])
    running = proxied(upstream, drain_s=20)
    proxy = await running.__aenter__()

    async def takes_no_more() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        except OSError:
            return True
        writer.close()
        return False

    async with proxy.connected() as client, asyncio.timeout(10):
        client.send(REQUEST)
        await client.head()
        assert await client.chunk() == EVENTS[0]
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        await until(takes_no_more)
        release.set()
        assert (await client.everything()).endswith(EVENTS[-1] + b"\r\n0\r\n\r\n")
        await stopping
    assert [event.status for event in proxy.events] == ["ok"]


async def test_streams_that_outlast_the_drain_are_cut_and_counted() -> None:
    async with proxied(RawUpstream([CHUNKED + chunks(*EVENTS[:2]), Stall()]), drain_s=1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(REQUEST)
        await reader.readuntil(b"message_start")
    assert not (await reader.read()).endswith(b"0\r\n\r\n")
    writer.transport.abort()
    event = await proxy.event()
    assert (event.status, event.error_type, event.input_tokens) == ("aborted", "proxy_stopped", 11)


async def test_one_broken_call_leaves_the_others_alone() -> None:
    async with proxied(RawUpstream([Close()], [streamed(*EVENTS)])) as proxy, proxy.connected() as client:
        client.send(REQUEST)
        assert (await client.answer()).status == 502
        client.send(REQUEST)
        assert (await client.answer()).body == b"".join(EVENTS)
        client.send(bare(b"GET", b"/healthz"))
        assert (await client.answer()).status == 200
