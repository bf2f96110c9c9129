"""Exchanges with an upstream: what is sent, what comes back, and which connections they use."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest

from infra.raw_upstream import Close, Early, Hold, Pause, RawUpstream, ReadBody, Stall, chunked, ok, streamed
from infra.upstream_exchange import HEADERS, Reader, named, pieces, read, talking
from infra.waiting import until
from tokentide_common.errors import InvalidRequest
from tokentide_proxy.upstream_errors import UpstreamBroken

EVENTS = [b"event: ping\ndata: {}\n\n", 'data: {"text": "Grüße 🌊"}\n\n'.encode(), b"data: [DONE]\n\n"]


async def test_a_request_goes_out_as_it_was_given_and_the_answer_comes_back_as_it_was_sent() -> None:
    answer = ok(b'{"id":1}', (b"Request-Id", b"req_1"), (b"x-twice", b"a"), (b"x-twice", b"b  "), (b"e", b""))
    upstream = RawUpstream([answer])
    async with talking(upstream) as (client, where):
        headers = [*HEADERS, (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"4")]
        seen = await read(
            await client.send(where, b"POST", b"/v1/messages?beta=true&a=%20", headers, b"body")
        )
    assert upstream.requests[0].head == (
        b"POST /v1/messages?beta=true&a=%20 HTTP/1.1\r\n"
        b"host: api.example\r\ncontent-type: application/json\r\n"
        b"x-twice: 1\r\nx-twice: 2\r\ncontent-length: 4\r\n\r\n"
    )
    assert upstream.requests[0].body == b"body"
    assert (seen.status, seen.body, seen.error) == (200, b'{"id":1}', None)
    assert [(name, value.strip()) for name, value in seen.headers] == [
        (b"request-id", b"req_1"),
        (b"x-twice", b"a"),
        (b"x-twice", b"b"),
        (b"e", b""),
        (b"content-length", b"8"),
    ]


async def test_one_connection_serves_one_request_after_another() -> None:
    upstream = RawUpstream(
        [ok()], [streamed(*EVENTS)], [ok(b"")], [b"HTTP/1.1 204 No Content\r\n\r\n"], [ok()]
    )
    async with talking(upstream) as (client, where):
        for body in (None, b"whole", pieces(b"str", b"eamed"), None, b""):
            assert (await read(await client.send(where, b"POST", b"/", HEADERS, body))).error is None
        assert (upstream.accepts, client.connections) == (1, 1)
    assert [bytes(request.body) for request in upstream.requests] == [b"", b"whole", b"streamed", b"", b""]


async def test_a_connection_is_free_when_its_answer_is_complete_though_nobody_has_read_it() -> None:
    upstream = RawUpstream([ok(b"first")], [ok(b"second")])
    async with talking(upstream) as (client, where):
        first = await client.send(where, b"GET", b"/1", HEADERS)
        second = await client.send(where, b"GET", b"/2", HEADERS)
        assert ((await read(first)).body, (await read(second)).body) == (b"first", b"second")
    assert upstream.accepts == 1


async def test_the_connection_used_last_is_used_next_and_only_so_many_are_kept() -> None:
    upstream = RawUpstream([Pause(0.02), ok()])
    async with talking(upstream, max_idle=2) as (client, where):
        answers = await asyncio.gather(*(client.send(where, b"GET", b"/", HEADERS) for _ in range(4)))
        for answer in answers:
            await read(answer)
        assert upstream.accepts == 4
        await until(lambda: client.connections == 2 and upstream.open == 2, what="two are closed")
        await read(await client.send(where, b"GET", b"/", HEADERS))
        await read(await client.send(where, b"GET", b"/", HEADERS))
        assert upstream.requests[-1].connection == upstream.requests[-2].connection
        assert upstream.accepts == 4


@pytest.mark.parametrize("limits", [{"keep_alive_s": 0.03}, {"max_age_s": 0.03, "idle_s": 0.2}])
async def test_a_connection_without_work_is_closed_in_time(limits: dict[str, float]) -> None:
    upstream = RawUpstream([ok()])
    async with talking(upstream, **limits) as (client, where):
        await read(await client.send(where, b"GET", b"/", HEADERS))
        await until(lambda: client.connections == 0 and upstream.open == 0)


async def test_upstreams_share_no_connection_even_at_one_address() -> None:
    upstream = RawUpstream([ok()])
    async with talking(upstream) as (client, where):
        await read(await client.send(where, b"GET", b"/", HEADERS))
        other = named(upstream.port, host="localhost")
        await read(await client.send(other, b"GET", b"/", HEADERS))
    assert upstream.accepts == 2


async def test_a_connection_that_was_closed_while_idle_costs_nothing_but_a_new_one() -> None:
    # The close is on its way when the request is sent: the request meets it.
    upstream = RawUpstream([ok(b"first")], [Close()], [ok(b"again")])
    async with talking(upstream, retry_post_within_s=5) as (client, where):
        await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))
        seen = await read(await client.send(where, b"POST", b"/", HEADERS, b"2"))
    assert (seen.body, upstream.accepts) == (b"again", 2)
    assert [bytes(request.body) for request in upstream.requests] == [b"1", b"2", b"2"]


async def test_a_request_is_sent_again_at_most_once() -> None:
    upstream = RawUpstream([ok()], [Close()])
    async with talking(upstream, retry_post_within_s=5) as (client, where):
        await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))
        with pytest.raises(UpstreamBroken):
            await client.send(where, b"POST", b"/", HEADERS, b"2")
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("method", "limits", "sent"),
    [
        (b"POST", {}, 2),
        (b"POST", {"retry_post_within_s": 5}, 3),
        (b"GET", {"retry_within_s": 5}, 3),
        (b"GET", {"retry_within_s": 0.05}, 2),
    ],
)
async def test_a_request_that_may_have_been_worked_on_is_not_sent_again(
    method: bytes, limits: dict[str, float], sent: int
) -> None:
    upstream = RawUpstream([ok()], [Pause(0.1), Close()], [Close()])
    async with talking(upstream, **limits) as (client, where):
        await read(await client.send(where, method, b"/", HEADERS, b"1"))
        with pytest.raises(UpstreamBroken):
            await client.send(where, method, b"/", HEADERS, b"2")
    assert len(upstream.requests) == sent


async def test_on_a_fresh_connection_nothing_is_sent_again() -> None:
    upstream = RawUpstream([Close()], [ok()])
    async with talking(upstream) as (client, where):
        with pytest.raises(UpstreamBroken):
            await client.send(where, b"POST", b"/", HEADERS, b"1")
    assert upstream.accepts == 1


async def test_a_streamed_body_is_not_sent_again() -> None:
    upstream = RawUpstream([ok()], [Close()], [ok()])
    async with talking(upstream) as (client, where):
        await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))
        with pytest.raises(UpstreamBroken):
            await client.send(where, b"POST", b"/", HEADERS, pieces(b"2"))
    assert len(upstream.requests) == 2


async def test_nothing_is_sent_again_once_a_byte_of_an_answer_has_come() -> None:
    upstream = RawUpstream([ok()], [b"H", Close()], [ok()])
    async with talking(upstream) as (client, where):
        await read(await client.send(where, b"GET", b"/", HEADERS))
        with pytest.raises(UpstreamBroken):
            await client.send(where, b"GET", b"/", HEADERS)
    assert len(upstream.requests) == 2


async def test_a_streamed_body_goes_with_its_length_or_in_chunks() -> None:
    upstream = RawUpstream([ok()])
    async with talking(upstream) as (client, where):
        sized = [*HEADERS, (b"content-length", b"6")]
        await read(await client.send(where, b"POST", b"/", sized, pieces(b"abc", b"", b"def")))
        await read(await client.send(where, b"POST", b"/", HEADERS, pieces(b"abc", b"", b"defg")))
    first, second = upstream.requests
    assert (first.body, first.header(b"transfer-encoding")) == (b"abcdef", None)
    assert (second.raw, second.header(b"content-length")) == (b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", None)
    assert upstream.accepts == 1


@pytest.mark.parametrize("parts", [(b"abc",), (b"abc", b"defg"), ()])
async def test_a_body_of_another_length_than_announced_ends_the_connection(parts: tuple[bytes, ...]) -> None:
    upstream = RawUpstream([ok()])
    async with talking(upstream) as (client, where):
        with pytest.raises(InvalidRequest):
            await client.send(where, b"POST", b"/", [(b"content-length", b"6")], pieces(*parts))
        await upstream.gone.wait()
    assert not any(request.complete for request in upstream.requests)


async def test_a_client_that_stops_sending_ends_the_connection_and_is_told_its_own_error() -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ConnectionAbortedError

    upstream = RawUpstream([ok()])
    async with talking(upstream) as (client, where):
        with pytest.raises(ConnectionAbortedError):
            await client.send(where, b"POST", b"/", HEADERS, breaking())
        await upstream.gone.wait()


async def test_an_answer_may_come_while_the_body_is_still_sent() -> None:
    more = asyncio.Event()
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n"
    upstream = RawUpstream([Early(), answer, ReadBody(), b"4\r\nlate\r\n0\r\n\r\n"], [ok()])
    async with talking(upstream) as (client, where):
        reader = Reader(await client.send(where, b"POST", b"/", HEADERS, pieces(b"abc", after=more)))
        assert await anext(reader) == b"early"
        more.set()
        assert (await read(reader)).body == b"late"
        await read(await client.send(where, b"GET", b"/", HEADERS))
    assert (upstream.requests[0].body, upstream.accepts) == (b"abc", 1)


async def test_a_refusal_before_the_body_is_sent_is_read_and_the_connection_is_not_used_again() -> None:
    never = asyncio.Event()
    refusal = ok(b"too large", status=b"413 Payload Too Large")
    upstream = RawUpstream([Early(), refusal, Stall()], [ok()])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"POST", b"/", HEADERS, pieces(b"abc", after=never)))
        assert (seen.status, seen.body, seen.error) == (413, b"too large", None)
        await upstream.gone.wait()
        await read(await client.send(where, b"GET", b"/", HEADERS))
    assert upstream.accepts == 2


@pytest.mark.parametrize("whole", [True, False])
async def test_a_refusal_is_read_though_the_upstream_closes_while_the_body_is_sent(
    whole: bool,
) -> None:
    part = b"x" * 65536
    upstream = RawUpstream([Early(), ok(b"too large", status=b"413 Payload Too Large"), Close()])
    async with talking(upstream) as (client, where):
        for _ in range(5):
            body = part * 100 if whole else pieces(*[part] * 100)
            seen = await read(await client.send(where, b"POST", b"/", HEADERS, body))
            assert (seen.status, seen.body, seen.error) == (413, b"too large", None)


async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    upstream = RawUpstream([interim + ok()])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"GET", b"/", HEADERS))
        assert (seen.status, seen.body, seen.headers) == (200, b"ok", [(b"content-length", b"2")])
        await read(await client.send(where, b"GET", b"/", HEADERS))
    assert upstream.accepts == 1


async def test_trailers_are_no_part_of_the_answer_and_its_connection_serves_on() -> None:
    head = b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream = RawUpstream([head + chunked(b"a", trailers=[(b"X-Sum", b"1"), (b"y", b"")])])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"GET", b"/", HEADERS))
        await read(await client.send(where, b"GET", b"/", HEADERS))
    assert (seen.body, len(seen.headers)) == (b"a", 2)
    assert upstream.accepts == 1


@pytest.mark.parametrize(
    ("method", "head", "reused"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", True),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", False),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", True),
        (b"GET", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", False),
        (b"GET", b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"GET", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(method: bytes, head: bytes, reused: bool) -> None:
    upstream = RawUpstream([head], [ok(b"next")])
    async with talking(upstream) as (client, where):
        assert (await read(await client.send(where, method, b"/", HEADERS))).body == b""
        assert (await read(await client.send(where, b"GET", b"/", HEADERS))).body == b"next"
    assert upstream.accepts == (1 if reused else 2)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_may_end_where_its_connection_ends(version: bytes) -> None:
    head = b"HTTP/" + version + b" 200 OK\r\ncontent-type: text/plain\r\n\r\n"
    upstream = RawUpstream([head, b"one", Pause(), b"two", Close()])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"GET", b"/", HEADERS))
    assert (seen.body, seen.error) == (b"onetwo", None)


async def test_compressed_bodies_pass_as_they_are() -> None:
    packed = zlib.compress(b"".join(EVENTS), wbits=31)
    upstream = RawUpstream([ok(packed, (b"content-encoding", b"gzip"))])
    async with talking(upstream) as (client, where):
        assert (await read(await client.send(where, b"GET", b"/", HEADERS))).body == packed


async def test_each_part_is_handed_over_when_it_comes_and_none_is_held() -> None:
    gates = [asyncio.Event() for _ in EVENTS]
    steps = [
        step for gate, event in zip(gates, EVENTS, strict=True) for step in (Hold(gate), chunked(event)[:-5])
    ]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    upstream = RawUpstream([head, *steps, b"0\r\n\r\n"])
    async with talking(upstream) as (client, where):
        reader = Reader(await client.send(where, b"GET", b"/", HEADERS))
        for gate, event in zip(gates, EVENTS, strict=True):
            gate.set()
            assert await anext(reader) == event
        assert (await read(reader)).pieces == []


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        (b"GET", b"/ HTTP/1.1\r\nx: y", HEADERS, None),
        (b"GET", b"/a b", HEADERS, None),
        (b"GET", b"", HEADERS, None),
        (b"GE T", b"/", HEADERS, None),
        (b"CONNECT", b"/", HEADERS, None),
        (b"GET", b"/", [(b"a", b"b\r\nc: d")], None),
        (b"GET", b"/", [(b"a", b"b\nc: d")], None),
        (b"GET", b"/", [(b"a\rb", b"c")], None),
        (b"GET", b"/", [(b"a", b"\0")], None),
        (b"POST", b"/", [(b"transfer-encoding", b"chunked")], b"a"),
        (b"POST", b"/", [(b"content-length", b"2")], b"a"),
        (b"POST", b"/", [(b"content-length", b"2")], None),
        (b"POST", b"/", [(b"content-length", b"+1")], b"a"),
        (b"POST", b"/", [(b"content-length", b"1"), (b"content-length", b"1")], b"a"),
    ],
)
async def test_what_would_be_another_request_at_the_other_end_is_not_sent(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None
) -> None:
    upstream = RawUpstream([ok()])
    async with talking(upstream) as (client, where):
        with pytest.raises(InvalidRequest):
            await client.send(where, method, target, headers, body)
    assert upstream.accepts == 0
