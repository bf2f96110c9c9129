"""Requests that come whole over connections that are there take no task; nothing else differs for them."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from infra.proxied import Answer, Proxied, RawClient, post, proxied
from infra.raw_upstream import Close, Echo, Hold, Pause, RawUpstream, Stall, ok
from infra.waiting import until
from tokentide_proxy.client_body import ClientBody
from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.upstream_limits import UpstreamLimits

EVENT = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"claude-sonnet-5",'
    b'"usage":{"input_tokens":11,"output_tokens":1}}}\n\n'
)
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
)
FIRST = ok(b"{}")


async def ask(client: RawClient, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    client.send(post(b"/v1/messages", body, *headers))
    return await client.answer()


async def at_rest(proxy: Proxied, client: RawClient) -> None:
    """Have a first request answered: its head is known from then on, and a connection is at rest."""
    assert (await ask(client, b"{}")).status == 200
    await until(lambda: proxy.client.idle_connections == 1)


async def test_bodies_of_all_sizes_under_one_head_arrive_as_they_are() -> None:
    bodies = [b"%d" % number * 10**number for number in range(5)]
    async with proxied(RawUpstream([Echo()])) as proxy, proxy.connected() as client:
        for body in bodies:
            assert (await ask(client, body)).body == body
    assert [bytes(request.body) for request in proxy.upstream.requests] == bodies
    lengths = [request.header(b"content-length") for request in proxy.upstream.requests]
    assert lengths == [b"%d" % len(body) for body in bodies]
    assert proxy.upstream.accepts == 1


async def test_a_head_that_differs_is_judged_anew() -> None:
    async with proxied(RawUpstream([FIRST])) as proxy, proxy.connected() as client:
        await at_rest(proxy, client)
        assert (await ask(client, b"{}", (b"X-Refuse", b"me"))).status == 401
        assert (await ask(client, b"{}")).status == 200
    assert len(proxy.upstream.requests) == 2


@pytest.mark.parametrize(
    "behind", [b"GET / HTTP/1.0\r\n\r\n", b"\0", b"POST /v1/messages HTTP/1.1\r\n\tx: y\r\n\r\n"]
)
async def test_what_follows_a_known_request_is_refused_as_ever(behind: bytes) -> None:
    async with proxied(RawUpstream([FIRST])) as proxy, proxy.connected() as client:
        await at_rest(proxy, client)
        client.send(post(b"/v1/messages", b"{}") + behind)
        everything = await client.everything()
    assert everything.startswith(b"HTTP/1.1 200")
    assert len(proxy.upstream.requests) == 2


async def test_requests_that_come_together_are_answered_in_order() -> None:
    async with proxied(RawUpstream([Echo()])) as proxy, proxy.connected() as client:
        assert (await ask(client, b"first")).body == b"first"
        client.send(post(b"/v1/messages", b"other") + post(b"/v1/messages", b"third"))
        assert [(await client.answer()).body for _ in range(2)] == [b"other", b"third"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_the_call_at_the_provider_at_once(begun: bool) -> None:
    hold = asyncio.Event()
    second = [STREAM, Hold(hold)] if begun else [Stall()]
    async with proxied(RawUpstream([FIRST], second)) as proxy:
        async with proxy.connected() as client:
            await at_rest(proxy, client)
            client.send(post(b"/v1/messages", b"{}"))
            if begun:
                await client.head()
                assert await client.chunk() == EVENT
            await until(lambda: len(proxy.upstream.requests) == 2)
            left_at = time.monotonic()
            client.leave()
            await until(lambda: len(proxy.events) == 2)
            assert time.monotonic() - left_at < 0.1
        await until(lambda: proxy.client.connections == 0, within_s=0.5)
        hold.set()
    event = proxy.events[1]
    assert (event.status, event.error_type, event.input_tokens) == ("aborted", "client_left", 11 * begun)


@pytest.mark.parametrize("begun", [EVENT, b"whole"], ids=["streamed", "whole"])
async def test_a_long_request_is_not_held_while_its_answer_lasts_and_who_leaves_is_noticed(
    begun: bytes,
) -> None:
    body = b'{"model":"asked-for","messages":["%b"]}' % (b"x" * 300_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(begun) + 1)
    first = STREAM if begun == EVENT else head + begun
    hold = asyncio.Event()
    async with proxied(RawUpstream([first, Hold(hold)])) as proxy, proxy.connected() as client:
        client.send(post(b"/v1/messages", body))
        await client.head()
        await until(lambda: longest_held() < 2**16)
        client.leave()
        event = await proxy.event()
        hold.set()
    assert (event.status, event.error_type) == ("aborted", "client_left")
    assert event.model == ("claude-sonnet-5" if begun == EVENT else "asked-for")


def longest_held() -> int:
    """The longest request that is held for an exchange."""
    everything = gc.get_objects()
    bodies = [one.asked for one in everything if isinstance(one, Exchange)]
    bodies += [one.copy for one in everything if isinstance(one, ClientBody)]
    bodies += [one.body for one in everything if isinstance(one, Cycle)]
    return max(map(len, bodies))


async def test_an_upstream_that_closed_its_idle_connection_is_asked_over_another() -> None:
    # It reads the request and closes: so it looks when it had closed the connection just before.
    upstream, patient = RawUpstream([FIRST], [Close()], [FIRST]), UpstreamLimits(retry_post_within_s=5)
    async with proxied(upstream, limits=patient) as proxy, proxy.connected() as client:
        await at_rest(proxy, client)
        assert (await ask(client, b"{}")).status == 200
        await until(lambda: len(proxy.events) == 2)
        assert proxy.forwarder.in_flight == 0
    told = proxy.metrics.render().decode()
    assert 'tokentide_proxy_upstream_repeats_total{upstream="anthropic"} 1.0' in told
    assert proxy.upstream.accepts == 2
    assert [event.status for event in proxy.events] == ["ok", "ok"]


async def test_an_answer_that_breaks_off_breaks_off_for_the_client() -> None:
    async with proxied(RawUpstream([FIRST], [STREAM, Pause(0.02), Close()])) as proxy:
        async with proxy.connected() as client:
            await at_rest(proxy, client)
            answer = await ask(client, b"{}")
        await until(lambda: len(proxy.events) == 2)
    assert (answer.body, answer.whole) == (EVENT, False)
    assert (proxy.events[1].status, proxy.events[1].error_type) == ("aborted", "upstream_broken")


async def test_an_answer_that_is_not_http_is_told_in_the_words_of_the_dialect() -> None:
    async with proxied(RawUpstream([FIRST], [b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])) as proxy:
        async with proxy.connected() as client:
            await at_rest(proxy, client)
            answer = await ask(client, b"{}")
        await until(lambda: len(proxy.events) == 2)
    assert (answer.status, answer.header(b"x-tokentide-error")) == (502, b"upstream_broken")
    assert proxy.events[1].status == "error"


async def test_one_that_outlasts_the_drain_is_cut_and_counted() -> None:
    async with proxied(RawUpstream([FIRST], [STREAM, Stall()]), drain_s=1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        client = RawClient(reader, writer)
        await at_rest(proxy, client)
        client.send(post(b"/v1/messages", b"{}"))
        await reader.readuntil(b"message_start")
    assert (proxy.events[1].status, proxy.events[1].error_type) == ("aborted", "proxy_stopped")
    writer.transport.abort()
