"""Upstreams that break off, lie, or are something else: an error with its word, no connection kept."""

from __future__ import annotations

import pytest

from infra.raw_upstream import Close, Pause, RawUpstream, Reset, Step, ok
from infra.upstream_exchange import HEADERS, read, talking
from infra.waiting import until
from tokentide_proxy.upstream_errors import UpstreamBroken

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

NO_ANSWER: dict[str, list[Step]] = {
    "closes": [Close()],
    "resets": [Reset()],
    "closes in the head": [OK + b"content-le", Close()],
    "closes after an interim answer": [b"HTTP/1.1 100 Continue\r\n\r\n", Close()],
    "speaks TLS": [b"\x15\x03\x01\x00\x02\x02\x46"],
    "speaks SSH": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "speaks HTTP/0.9": [b"<html>hello</html>"],
    "speaks HTTP/2": [b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"],
    "claims HTTP/2": [b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"],
    "switches protocols": [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc"],
    "switches without a word": [b"HTTP/1.1 101 Switching\r\n\r\n"],
    "status of two digits": [b"HTTP/1.1 20 OK\r\n\r\n"],
    "status zero": [b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n"],
    "both framings": [OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "both framings the other way": [OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"],
    "two lengths": [OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"],
    "two lengths in one line": [OK + b"content-length: 1, 2\r\n\r\nab"],
    "a negative length": [OK + b"content-length: -1\r\n\r\n"],
    "a signed length": [OK + b"content-length: +1\r\n\r\na"],
    "an endless length": [OK + b"content-length: 99999999999999999999999\r\n\r\n"],
    "another coding": [OK + b"transfer-encoding: gzip\r\n\r\n"],
    "a coding inside the chunks": [OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    "chunked, but not last": [OK + b"transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n"],
    "nearly chunked": [OK + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"],
    "two codings": [OK + b"transfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "chunks in HTTP/1.0": [b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "a folded header": [OK + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n"],
    "bare line feeds": [b"HTTP/1.1 200 OK\ncontent-length: 0\n\n"],
    "a bare line feed": [OK + b"a: b\ncontent-length: 0\r\n\r\n"],
    "a space before the colon": [OK + b"content-length : 0\r\n\r\n"],
    "a null byte": [OK + b"a: \0\r\ncontent-length: 0\r\n\r\n"],
    "a body in an interim answer": [b"HTTP/1.1 103 Hints\r\ncontent-length: 2\r\n\r\nab" + ok()],
    "interim answers without end": [b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + ok()],
    "a huge header": [OK + b"a: " + b"b" * 200_000 + b"\r\ncontent-length: 0\r\n\r\n"],
    "a huge header that drips": [OK + b"a: ", *([b"b" * 9000, Pause()] * 20)],
    "a huge name that drips": [OK, *([b"b" * 9000, Pause()] * 20)],
    "a huge reason that drips": [b"HTTP/1.1 200 ", *([b"b" * 9000, Pause()] * 20)],
    "very many headers": [OK + b"".join(b"h%d: v\r\n" % n for n in range(400)) + b"\r\n"],
    "headers across interim answers": [(b"HTTP/1.1 103 x\r\nlink: " + b"b" * 9000 + b"\r\n\r\n") * 20 + ok()],
}
BROKEN_OFF: dict[str, tuple[list[Step], bytes]] = {
    "closes in a sized body": ([OK + b"content-length: 9\r\n\r\nhalf", Close()], b"half"),
    "closes in a chunk": ([CHUNKED + b"9\r\nhalf", Close()], b"half"),
    "closes between chunks": ([CHUNKED + b"4\r\nhalf\r\n", Close()], b"half"),
    "closes before the last line": ([CHUNKED + b"4\r\nhalf\r\n0\r\n", Close()], b"half"),
    "resets in the body": ([CHUNKED + b"4\r\nhalf\r\n", Pause(0.02), Reset()], b"half"),
    "a size that is none": ([CHUNKED + b"4\r\nhalf\r\nxyz\r\n"], b"half"),
    "a size beyond numbers": ([CHUNKED + b"4\r\nhalf\r\nffffffffffffffffffff\r\n"], b"half"),
    "a negative size": ([CHUNKED + b"4\r\nhalf\r\n-4\r\nmore\r\n"], b"half"),
    "a chunk longer than its size": ([CHUNKED + b"4\r\nhalfmore\r\n0\r\n\r\n"], b"half"),
    "bare line feeds in chunks": ([CHUNKED + b"4\r\nhalf\r\n4\nmore\n0\n\n"], b"half"),
    "an endless chunk extension": (
        [CHUNKED + b"4\r\nhalf\r\n", Pause(0.01), b"4;a=", *([b"b" * 9000, Pause(0.001)] * 20)],
        b"half",
    ),
    "endless trailers": (
        [
            CHUNKED + b"4\r\nhalf\r\n0\r\n",
            Pause(0.01),
            *([b"a: " + b"b" * 9000 + b"\r\n", Pause(0.001)] * 20),
        ],
        b"half",
    ),
    "an endless trailer": (
        [CHUNKED + b"4\r\nhalf\r\n0\r\na: ", Pause(0.01), *([b"b" * 9000, Pause(0.001)] * 20)],
        b"half",
    ),
}
TOO_MUCH: dict[str, list[Step]] = {
    "at once": [ok() + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"],
    "later": [ok(), Pause(0.01), b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"],
    "without a body": [ok() + b"HTTP/1.1 500 Forged\r\nx: y\r\ncontent-length: 0\r\n\r\n"],
    "half": [ok() + b"HTTP/1.1 500 Forged\r\nx: y\r\nz"],
    "garbage": [ok() + b"more"],
    "after chunks": [CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"],
}


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_what_is_no_answer_is_broken(name: str) -> None:
    upstream = RawUpstream(NO_ANSWER[name])
    async with talking(upstream) as (client, where):
        with pytest.raises(UpstreamBroken) as caught:
            await client.send(where, b"POST", b"/", HEADERS, b"{}")
        assert caught.value.word == "upstream_broken"
        await until(lambda: client.connections == 0 and upstream.open == 0)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("name", BROKEN_OFF)
async def test_what_came_before_the_break_is_read_and_then_the_break(name: str) -> None:
    steps, before = BROKEN_OFF[name]
    upstream = RawUpstream(steps)
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"POST", b"/", HEADERS, b"{}"))
        assert (seen.body, type(seen.error)) == (before, UpstreamBroken)
        await until(lambda: client.connections == 0 and upstream.open == 0)


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_what_follows_an_answer_is_never_taken_for_the_next_one(name: str) -> None:
    upstream = RawUpstream(TOO_MUCH[name], [ok(b"honest")])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"GET", b"/1", HEADERS))
        assert (seen.status, seen.body, seen.error) == (200, b"ok", None)
        assert len(seen.headers) == 1
        await until(lambda: client.connections == 0)
        assert (await read(await client.send(where, b"GET", b"/2", HEADERS))).body == b"honest"
    assert upstream.accepts == 2


async def test_a_body_in_an_answer_to_head_is_never_taken_for_the_next_answer() -> None:
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    head = OK + b"content-length: %d\r\n\r\n" % len(forged)
    upstream = RawUpstream([head + forged], [ok(b"honest")])
    async with talking(upstream) as (client, where):
        seen = await read(await client.send(where, b"HEAD", b"/1", HEADERS))
        assert (seen.body, seen.error) == (b"", None)
        assert (await read(await client.send(where, b"GET", b"/2", HEADERS))).body == b"honest"
    assert upstream.accepts == 2


async def test_errors_quote_nothing_of_the_exchange() -> None:
    async with talking(RawUpstream([b"HTTP/1.1 200 OK\r\nsecret-\0canary: canary\r\n\r\n"])) as (
        client,
        where,
    ):
        with pytest.raises(UpstreamBroken) as caught:
            await client.send(where, b"POST", b"/canary", [(b"x-api-key", b"canary")], b"canary")
    assert "canary" not in str(caught.value)
