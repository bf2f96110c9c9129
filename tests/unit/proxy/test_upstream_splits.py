"""However the network cuts an answer, its reader sees the same bytes, and every piece when it comes."""

from __future__ import annotations

import zlib

import pytest

from infra.raw_upstream import Answer, Close, Pause, RawUpstream, chunked, ok, streamed
from infra.upstream_exchange import HEADERS, Read, read, talking
from infra.waiting import until

EVENTS = [
    'event: message_start\ndata: {"a":"Grüße 🌊"}\n\n'.encode(),
    b": ping\n\n",
    b"data: [DONE]\r\n\r\n",
]
PACKED = zlib.compress(b"".join(EVENTS), wbits=31)
GZIP = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
# Each ends in a way of its own; those that leave the connection whole leave it reusable at every cut.
ANSWERS: dict[str, tuple[bytes, bytes, bool]] = {
    "events": (streamed(*EVENTS), b"".join(EVENTS), True),
    "sized": (
        ok(b'{"usage":{"input_tokens":1}}', (b"request-id", b"req_1")),
        b'{"usage":{"input_tokens":1}}',
        True,
    ),
    "packed": (GZIP + chunked(PACKED[:7], PACKED[7:]), PACKED, True),
    "interim": (b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + ok(b"body"), b"body", True),
    "trailers": (
        b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"x", trailers=[(b"a", b"b")]),
        b"x",
        True,
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n" + b"".join(EVENTS), b"".join(EVENTS), False),
    "cut off": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"half", False),
    "garbage": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n", b"ab", False),
}


def seen(answer: Read) -> object:
    return answer.status, answer.headers, answer.body, type(answer.error)


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_cut_anywhere_is_the_same_answer(name: str) -> None:
    wire, body, reusable = ANSWERS[name]
    end = [] if reusable else [Close()]
    cuts: list[Answer] = [[wire[:cut], Pause(0.001), wire[cut:], *end] for cut in range(1, len(wire))]
    upstream = RawUpstream([wire, *end], *cuts)
    async with talking(upstream) as (client, where):
        whole = await read(await client.send(where, b"GET", b"/", HEADERS))
        assert whole.body == body
        for _ in cuts:
            assert seen(await read(await client.send(where, b"GET", b"/", HEADERS))) == seen(whole)
    assert upstream.accepts == (1 if reusable else len(cuts) + 1)


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_comes_byte_by_byte_is_the_same_answer(name: str) -> None:
    wire, body, reusable = ANSWERS[name]
    end = [] if reusable else [Close()]
    drops = [step for byte in wire for step in (bytes([byte]), Pause())]
    async with talking(RawUpstream([wire, *end], [*drops, *end])) as (client, where):
        whole = await read(await client.send(where, b"GET", b"/", HEADERS))
        dripped = await read(await client.send(where, b"GET", b"/", HEADERS))
    assert seen(dripped) == seen(whole)
    assert dripped.body == body


async def test_what_comes_apart_is_not_put_together() -> None:
    apart = [step for event in EVENTS for step in (chunked(event)[:-5], Pause(0.02))]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with talking(RawUpstream([head, *apart, b"0\r\n\r\n"])) as (client, where):
        answer = await client.send(where, b"GET", b"/", HEADERS)
        # Nobody reads while they come: they still come out one by one.
        await until(lambda: client.idle_connections == 1)
        assert (await read(answer)).pieces == EVENTS
