"""Nobody can fill the memory, or hold a connection, with the headers of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tokentide_common.bounded_head import MAX_HEAD_BYTES, BoundedHead
from tokentide_common.serving import serving

ENDLESS = [b"GET / HTTP/1.1\r\nx: ", *[b"a" * 10_000] * 3000]
MANY = [b"GET / HTTP/1.1\r\n", *[b"x: a\r\n" * 2000] * 3000]


class Impatient(BoundedHead):
    head_s = 0.2


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    if scope["type"] == "lifespan":
        while True:
            said = await receive()
            await send({"type": f"{said['type']}.complete"})
            if said["type"] == "lifespan.shutdown":
                return
    size = 0
    while (part := await receive()).get("more_body"):
        size += len(part["body"])
    size += len(part.get("body", b""))
    text = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]}
    )
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(echo, host="127.0.0.1", port=0) as port:
        yield port


def request(size: int, *, headers: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (headers, size, b"b" * size)


@pytest.mark.parametrize("pieces", [ENDLESS, MANY], ids=["one header", "many headers"])
async def test_a_head_without_end_is_cut_off_with_an_answer(port: int, pieces: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            if sent > MAX_HEAD_BYTES and not answer:
                answer = await asyncio.wait_for(reader.readline(), 10)
                break
    finally:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert sent < 10 * MAX_HEAD_BYTES


async def test_what_is_within_the_bound_is_served_with_bodies_of_any_length_one_after_the_other(
    port: int,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    long = b"x: %b\r\n" % (b"a" * (MAX_HEAD_BYTES - 1000))
    for size, headers in ((0, long), (3_000_000, long), (0, b""), (5, long)):
        whole = request(size, headers=headers)
        for start in range(0, len(whole), 50_000):
            writer.write(whole[start : start + 50_000])
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(len(str(size))) == str(size).encode()
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost:", request(3) + b"GET / HT"])
async def test_who_does_not_finish_a_head_is_let_go(said: bytes) -> None:
    async with serving(
        echo, host="127.0.0.1", port=0, options={"http": Impatient, "timeout_keep_alive": 1}
    ) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(20):
            try:
                while await reader.read(1000):
                    pass
            except ConnectionError:
                pass
        writer.close()
