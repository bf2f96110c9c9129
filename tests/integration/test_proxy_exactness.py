"""What goes through the proxy reaches the other side byte for byte, whatever it is and however it is cut."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from infra.provider_answers import anthropic_events, anthropic_message
from infra.proxied import bare, post, proxied
from infra.raw_upstream import Early, Hold, Pause, RawUpstream, ReadBody, chunked, ok, streamed

REQUEST = post(b"/v1/messages", b'{"model":"claude-sonnet-5","stream":true}')


async def test_a_request_reaches_the_provider_as_it_was_sent_without_what_is_for_us() -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        await proxy.ask(
            post(
                b"/v1/messages?beta=true&a=%2F+b&&c=",
                b'{ "a" : 1 }',
                (b"X-Tokentide-Key", b"tt_p_x"),
                (b"X-Tokentide-Project", b"secret-project"),
                (b"x-cua-user", b"me"),
                (b"X-Api-Key", b"sk-ant"),
                (b"anthropic-beta", b"a,b"),
                (b"x-future", b"1"),
                (b"x-future", b" 2"),
                (b"Accept-Encoding", b"gzip, br, zstd"),
                (b"Connection", b"keep-alive, X-Listed, Content-Length"),
                (b"X-Listed", b"only for the proxy"),
                (b"Keep-Alive", b"timeout=5"),
                (b"TE", b"trailers"),
                (b"Proxy-Authorization", b"Basic x"),
                (b"X-Forwarded-For", b"10.0.0.1"),
                (b"Forwarded", b"for=10.0.0.1"),
            )
        )
    assert proxy.upstream.requests[0].head == (
        b"POST /v1/messages?beta=true&a=%2F+b&&c= HTTP/1.1\r\n"
        b"host: 127.0.0.1:" + str(proxy.upstream.port).encode() + b"\r\n"
        b"x-api-key: sk-ant\r\nanthropic-beta: a,b\r\nx-future: 1\r\nx-future: 2\r\n"
        b"accept-encoding: gzip, br, zstd\r\ncontent-length: 11\r\n\r\n"
    )
    assert proxy.upstream.requests[0].body == b'{ "a" : 1 }'


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        (b"/v1/models?limit=1000", b"/v1/models?limit=1000"),
        (b"/v1/messages?", b"/v1/messages?"),
        (b"/v1/files/a%2Fb%20c;d=1?x=%zz&y", b"/v1/files/a%2Fb%20c;d=1?x=%zz&y"),
        (b"/api/hello", b"/api/hello"),
        (b"/openai/v1/chat/completions?a", b"/v1/chat/completions?a"),
        (b"/openai/responses/resp_1", b"/v1/responses/resp_1"),
        (
            b"/gemini/v1beta/models/g:streamGenerateContent?alt=sse",
            b"/v1beta/models/g:streamGenerateContent?alt=sse",
        ),
    ],
)
async def test_paths_and_queries_are_not_encoded_anew(asked: bytes, got: bytes) -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        assert (await proxy.ask(bare(b"GET", asked))).status == 200
    assert proxy.upstream.requests[0].line == b"GET " + got + b" HTTP/1.1"


@pytest.mark.parametrize(
    "asked",
    [b"/", b"/v2/x", b"/v1", b"/openai", b"/openais/v1/x", b"/v1/../x", b"/openai/%2e%2E/x", b"//x/v1/"],
)
async def test_what_leads_nowhere_is_not_found_and_asks_nobody(asked: bytes) -> None:
    async with proxied(RawUpstream([ok()])) as proxy:
        answer = await proxy.ask(bare(b"GET", asked))
    assert (answer.status, answer.header(b"content-type")) == (404, b"application/problem+json")
    assert b'"no_upstream"' in answer.body
    assert proxy.upstream.requests == []


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"])
async def test_every_method_goes_through(method: bytes) -> None:
    async with proxied(RawUpstream([ok(b"done")])) as proxy:
        answer = await proxy.ask(bare(method, b"/v1/batches/1"))
    assert (answer.status, answer.body, proxy.upstream.requests[0].line.split()[0]) == (200, b"done", method)


async def test_an_answer_to_head_has_the_length_of_what_it_is_about_and_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\nx-a: b\r\n\r\n"
    async with proxied(RawUpstream([head], [ok(b"next")])) as proxy, proxy.connected() as client:
        client.send(bare(b"HEAD", b"/api/hello"))
        assert (await client.answer(bodiless=True)).header(b"content-length") == b"5000"
        client.send(bare(b"GET", b"/v1/models"))
        assert (await client.answer()).body == b"next"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_ends_with_its_head(status: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\ncontent-length: 12\r\netag: x\r\n\r\n"
    async with proxied(RawUpstream([head], [ok(b"next")])) as proxy, proxy.connected() as client:
        client.send(bare(b"GET", b"/v1/models"))
        answer = await client.answer()
        assert (answer.status, answer.header(b"etag")) == (int(status[:3]), b"x")
        client.send(bare(b"GET", b"/v1/models"))
        assert (await client.answer()).body == b"next"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (b"429 Too Many Requests", [(b"retry-after", b"17")], b'{"type":"error","error":{"type":"x"}}'),
        (b"529 Overloaded", [(b"x-should-retry", b"true")], b'{"type": "error"}'),
        (b"400 Bad Request", [(b"content-type", b"text/html")], b"<html>\xff\xfe not JSON"),
        (b"401 Unauthorized", [(b"www-authenticate", b"x")], b""),
        (b"500 Internal Server Error", [(b"anthropic-ratelimit-tokens-reset", b"soon")], b"{}"),
    ],
)
async def test_the_providers_errors_reach_the_client_as_they_are(
    status: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    async with proxied(RawUpstream([ok(body, *headers, status=status)])) as proxy:
        answer = await proxy.ask(REQUEST)
        assert (await proxy.event()).status == "error"
    assert (answer.status, answer.body) == (int(status[:3]), body)
    assert answer.headers == [*headers, (b"content-length", b"%d" % len(body))]


async def test_an_answer_has_the_providers_headers_and_none_of_ours() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nDate: then\r\nServer: them\r\nrequest-id: req_1\r\nset-cookie: a=1\r\n"
        b"set-cookie: b=2\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=4\r\n"
        b"transfer-encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
    )
    upstream = RawUpstream([head + chunked(b"a", b"b", trailers=[(b"x-sum", b"1")])], [ok(b"next")])
    async with proxied(upstream) as proxy, proxy.connected() as client:
        client.send(REQUEST)
        answer = await client.answer()
        assert answer.headers == [
            (b"date", b"then"),
            (b"server", b"them"),
            (b"request-id", b"req_1"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"transfer-encoding", b"chunked"),
        ]
        assert (answer.body, answer.whole) == (b"ab", True)
        client.send(REQUEST)
        assert (await client.answer()).body == b"next"


async def test_interim_answers_do_not_become_the_answer() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    async with proxied(RawUpstream([interim, ok(b"the answer")])) as proxy:
        answer = await proxy.ask(REQUEST)
    assert (answer.status, answer.body) == (200, b"the answer")


@pytest.mark.parametrize("coding", ["plain", "gzip"])
async def test_a_stream_cut_anywhere_reaches_the_client_whole_and_is_counted(coding: str) -> None:
    body = b"".join(anthropic_events())
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"
    if coding == "gzip":
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(body) + packer.flush()
        head += b"content-encoding: gzip\r\n"
    raw = head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body[:100], body[100:])
    cuts = [[raw[:at], Pause(), raw[at:]] for at in range(1, len(raw))]
    async with proxied(RawUpstream(*cuts)) as proxy, proxy.connected() as client:
        for _ in cuts:
            client.send(REQUEST)
            answer = await client.answer()
            assert (answer.body, answer.whole) == (body, True)
        assert proxy.upstream.accepts == 1
    assert {
        (e.call_id, e.status, e.input_tokens, e.cache_read_tokens, e.output_tokens) for e in proxy.events
    } == {("req_1", "ok", 11, 7, 42)}
    assert len(proxy.events) == len(cuts)


async def test_an_answer_with_a_length_cut_anywhere_reaches_the_client_whole_and_is_counted() -> None:
    body = anthropic_message()
    raw = ok(body, (b"content-type", b"application/json"), (b"request-id", b"req_1"))
    cuts = [[raw[:at], Pause(), raw[at:]] for at in range(1, len(raw), 3)]
    async with proxied(RawUpstream(*cuts)) as proxy, proxy.connected() as client:
        for _ in cuts:
            client.send(REQUEST)
            answer = await client.answer()
            assert (answer.body, answer.header(b"content-length")) == (body, b"%d" % len(body))
    assert {(e.call_id, e.status, e.output_tokens) for e in proxy.events} == {("req_1", "ok", 42)}


async def test_a_request_cut_anywhere_reaches_the_provider_whole() -> None:
    body = b'{"model":"m","messages":[]}'
    lines = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = lines + chunked(body[:5], body[5:])
    async with proxied(RawUpstream([ok()])) as proxy, proxy.connected() as client:
        for at in range(1, len(raw)):
            client.send(raw[:at])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            client.send(raw[at:])
            assert (await client.answer()).status == 200
    assert {bytes(request.body) for request in proxy.upstream.requests} == {body}
    assert {request.line for request in proxy.upstream.requests} == {b"POST /v1/messages HTTP/1.1"}


async def test_every_event_goes_out_when_it_comes_and_as_it_comes() -> None:
    events = [*anthropic_events("a", "b"), b": a comment\n\n", b"data: not JSON\n\n"]
    gates = [asyncio.Event() for _ in events]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    steps = [step for gate, event in zip(gates, events, strict=True) for step in (Hold(gate), _chunk(event))]
    async with proxied(RawUpstream([head, *steps, b"0\r\n\r\n"])) as proxy, proxy.connected() as client:
        client.send(REQUEST)
        await client.head()
        for gate, event in zip(gates, events, strict=True):
            gate.set()
            async with asyncio.timeout(2):
                assert await client.chunk() == event
        assert await client.chunk() == b""


async def test_an_answer_that_comes_before_the_body_does_not_wait_for_it() -> None:
    early = [Early(), ok(b"too fast", status=b"429 Too Many Requests"), ReadBody()]
    async with proxied(RawUpstream(early)) as proxy, proxy.connected() as client:
        client.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(2):
            answer = await client.answer()
    assert (answer.status, answer.body) == (429, b"too fast")


async def test_whoever_expects_to_be_asked_for_the_body_is_asked() -> None:
    async with proxied(RawUpstream([ok()])) as proxy, proxy.connected() as client:
        client.send(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.head()).head == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"{}")
        assert (await client.answer()).status == 200
    assert proxy.upstream.requests[0].body == b"{}"


async def test_connections_to_the_provider_are_used_again() -> None:
    async with proxied(RawUpstream([streamed(*anthropic_events())])) as proxy, proxy.connected() as client:
        for _ in range(5):
            client.send(REQUEST)
            assert (await client.answer()).whole
    assert proxy.upstream.accepts == 1


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
