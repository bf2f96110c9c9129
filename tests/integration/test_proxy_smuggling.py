"""A request that two readers could understand in two ways is refused, and nothing behind it is a request."""

from __future__ import annotations

import asyncio

import pytest

from infra.proxied import Proxied, bare, post, proxied
from infra.raw_upstream import Hold, RawUpstream, ok, streamed
from infra.waiting import until
from tokentide_proxy.client_heads import ClientLimits

HIDDEN = b"GET /v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
START = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"

AMBIGUOUS = {
    "length and chunks": START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": START + b"Content-Length: 2\r\nContent-Length: 44\r\n\r\n{}",
    "the same length twice": START + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": START + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": START + b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": START + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": START + b"Content-Length:\r\n\r\n",
    "two codings": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": START + b"Transfer-Encoding: identity\r\n\r\n",
    "something like chunked": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an unprintable coding": START + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": START + b"X-A: b\r\n Content-Length: 44\r\n\r\n",
    "a folded first header": b"GET /v1/models HTTP/1.1\r\n Host: x\r\n\r\n",
    "bare line feeds": b"GET /v1/models HTTP/1.1\nHost: x\n\n",
    "a bare line feed after a header": b"GET /v1/models HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "a bare line feed at the end": b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\n",
    "a bare carriage return": b"GET /v1/models HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n",
    "a null byte": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "a space in a name": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n",
    "a name that is no token": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX(A): b\r\n\r\n",
    "no name": b"GET /v1/models HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\nX-A: b\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "an absolute target": b"GET http://elsewhere/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FETCH /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": START + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    "a socket": b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
BAD_CHUNKS = {
    "no number": CHUNKED + b"zz\r\n",
    "a negative number": CHUNKED + b"-1\r\n",
    "too large a number": CHUNKED + b"FFFFFFFFFFFFFFFFF\r\n",
    "a line feed alone": CHUNKED + b"2\n{}\r\n0\r\n\r\n",
    "more than announced": CHUNKED + b"2\r\n{}{}\r\n0\r\n\r\n",
    "no end of data": CHUNKED + b"2\r\n{}0\r\n\r\n",
}


async def _refused(proxy: Proxied, request: bytes) -> bytes:
    async with proxy.connected() as client, asyncio.timeout(5):
        client.send(request + HIDDEN)
        return await client.everything()


async def test_a_providers_key_is_not_sent_back_by_a_trace() -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await _refused(proxy, b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert proxy.upstream.requests == []


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_has_two_meanings_is_refused_and_the_connection_ends(name: str) -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await _refused(proxy, AMBIGUOUS[name])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"\r\n\r\n") == 1
    assert b"application/problem+json" in answer
    assert proxy.upstream.requests == []


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_body_with_a_bad_chunk_never_becomes_a_whole_one(name: str) -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await _refused(proxy, BAD_CHUNKS[name])
        await until(lambda: proxy.client.connections == 0, within_s=10)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"\r\n\r\n") == 1
    assert not any(request.complete for request in proxy.upstream.requests)


async def test_a_bad_chunk_that_comes_late_cuts_the_answer_that_has_begun() -> None:
    held = asyncio.Event()
    async with (
        proxied(RawUpstream([streamed(b"data: 1\n\n")[:-5], Hold(held)])) as proxy,
        proxy.connected() as client,
    ):
        client.send(CHUNKED + b"2\r\n{}\r\n")
        # This upstream answers only what is complete, so nothing can have begun here but the upload.
        await until(lambda: proxy.upstream.requests)
        client.send(b"zz\r\n" + HIDDEN)
        async with asyncio.timeout(5):
            assert (await client.everything()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: proxy.client.connections == 0, within_s=10)
    assert [request.line for request in proxy.upstream.requests] == [b"POST /v1/messages HTTP/1.1"]


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/0.9"])
async def test_only_one_version_of_http_is_spoken(version: bytes) -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await _refused(proxy, b"GET /v1/models " + version + b"\r\nHost: x\r\n\r\n")
    assert answer.split(b" ")[1] in {b"505", b"400"}
    assert proxy.upstream.requests == []


async def test_requests_in_a_row_are_answered_one_by_one_in_their_order() -> None:
    async with (
        proxied(RawUpstream([ok(b"one")], [ok(b"two")], [ok(b"three")])) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(post(b"/v1/a", b"{}") + post(b"/v1/b", b"{}") + bare(b"GET", b"/v1/c"))
        assert [(await client.answer()).body for _ in range(3)] == [b"one", b"two", b"three"]
    assert [request.line.split()[1] for request in proxy.upstream.requests] == [b"/v1/a", b"/v1/b", b"/v1/c"]


async def test_nonsense_behind_a_good_request_does_not_spoil_its_answer() -> None:
    release = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    async with (
        proxied(RawUpstream([head, Hold(release), b"good"])) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(bare(b"GET", b"/v1/models") + b"nonsense\r\n\r\n" + HIDDEN)
        await client.reader.readuntil(b"\r\n\r\n")
        release.set()
        assert await client.everything() == b"good"
    assert len(proxy.upstream.requests) == 1


async def test_nothing_is_read_behind_a_request_that_ends_its_connection() -> None:
    async with proxied(RawUpstream([ok(b"last")])) as proxy:
        answer = await _refused(proxy, bare(b"GET", b"/v1/models", (b"Connection", b"close")))
    assert answer.endswith(b"last")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(proxy.upstream.requests) == 1


async def test_a_trailer_does_not_become_a_header() -> None:
    trailer = CHUNKED + b"2\r\n{}\r\n0\r\nX-Refuse: me\r\nX-Api-Key: other\r\n\r\n"
    async with proxied(RawUpstream([ok()])) as proxy:
        assert (await proxy.ask(trailer)).status == 200
    assert proxy.upstream.requests[0].header(b"x-api-key") is None


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 300 + b"\r\n",
        b"GET /v1/" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1_000_000,
        bare(b"GET", b"/v1/models") + b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1_000_000,
        bare(b"GET", b"/v1/models") + bare(b"GET", b"/v1/models", (b"X-A", b"a" * 70_000)),
    ],
    ids=["a long line", "many lines", "a long target", "no end", "no end in the second", "a long second"],
)
async def test_a_head_over_its_bounds_is_refused(request_bytes: bytes) -> None:
    async with (
        proxied(RawUpstream([ok(b"good")])) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(request_bytes)
        answer = await client.everything()
    assert b"HTTP/1.1 431 " in answer or answer.endswith(b"good")
    assert len(proxy.upstream.requests) == answer.count(b"good")


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /v1/models HTTP/1.1\r\nX-A:", b"\r\n"],
    ids=["nothing", "half a head", "blank lines"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(beginning: bytes) -> None:
    async with (
        proxied(RawUpstream([ok()]), client_limits=ClientLimits(head_s=0.2)) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(beginning)
        await client.everything()


async def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for() -> None:
    async with (
        proxied(RawUpstream([ok()]), client_limits=ClientLimits(head_s=0.3)) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        reading = asyncio.create_task(client.everything())
        while not reading.done():
            client.send(b"\r\n")
            await asyncio.sleep(0.02)


async def test_a_body_that_stops_coming_is_not_waited_for() -> None:
    async with (
        proxied(RawUpstream([ok()]), client_limits=ClientLimits(idle_s=0.2)) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(START + b"Content-Length: 100\r\n\r\n{")
        assert await client.everything() == b""
        assert (await proxy.event()).status == "aborted"
        await until(lambda: proxy.client.connections == 0, within_s=10)


async def test_a_body_over_its_bound_is_refused_before_and_while_it_comes() -> None:
    async with proxied(RawUpstream([ok()]), max_body_bytes=1000) as proxy:
        announced = await proxy.ask(START + b"Content-Length: 1001\r\n\r\n")
        assert (announced.status, announced.header(b"x-tokentide-error")) == (413, b"too_large")
        assert proxy.upstream.requests == []
        in_chunks = await proxy.ask(CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
        assert in_chunks.status == 413
        assert proxy.events == []
        assert (await proxy.ask(post(b"/v1/messages", b"x" * 1000))).status == 200
    assert sum(request.complete for request in proxy.upstream.requests) == 1


async def test_a_body_that_grows_over_its_bound_on_the_way_ends_the_call() -> None:
    async with proxied(RawUpstream([ok()]), max_body_bytes=1000) as proxy, proxy.connected() as client:
        client.send(CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n")
        await until(lambda: proxy.upstream.requests)
        client.send(b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n")
        assert (await client.answer()).status == 413
        event = await proxy.event()
        await until(lambda: proxy.client.connections == 0, within_s=10)
    assert (event.status, event.error_type, event.output_tokens) == ("aborted", "request_broken", 0)
    assert not proxy.upstream.requests[0].complete


async def test_a_refused_client_may_send_its_body_and_try_again() -> None:
    async with (
        proxied(RawUpstream([ok(b"in")])) as proxy,
        proxy.connected() as client,
        asyncio.timeout(5),
    ):
        client.send(post(b"/v1/messages", b"x" * 3_000_000, (b"X-Refuse", b"me")))
        answer = await client.answer()
        assert (answer.status, b"authentication_error" in answer.body) == (401, True)
        client.send(post(b"/v1/messages", b"{}"))
        assert (await client.answer()).body == b"in"
