"""Whatever comes, however it is cut: a right answer is read right, a wrong one ends, nothing stays open."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.raw_upstream import Answer, Close, Echo, Pause, RawUpstream, Step, chunked, ok
from infra.upstream_exchange import HEADERS, read, talking
from tokentide_proxy.exchange import Headers
from tokentide_proxy.upstream_errors import UpstreamError

FUZZ = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

names = st.from_regex(r"x-[a-z0-9]{1,12}", fullmatch=True).map(str.encode)
values = st.from_regex(rb"([!-~\x80-\xff]([ \t!-~\x80-\xff]{0,20}[!-~\x80-\xff])?)?", fullmatch=True)
header_lists = st.lists(st.tuples(names, values), max_size=6)
ODD = st.sampled_from([b"\r\n", b"\n", b"\0", b"0\r\n\r\n", b": ", b"\r\n\r\n", ok(b"forged")])
bodies = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


@dataclass(frozen=True)
class Sent:
    """An answer in all its parts, and as it goes on the wire."""

    status: int
    headers: Headers
    parts: list[bytes]
    trailers: Headers
    framing: str
    interims: int

    @property
    def wire(self) -> bytes:
        body = b"".join(self.parts)
        framing, content = {
            "sized": (b"Content-Length: %d\r\n" % len(body), body),
            "chunked": (b"Transfer-Encoding: chunked\r\n", chunked(*self.parts, trailers=self.trailers)),
            "until the end": (b"", body),
        }[self.framing]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in self.headers)
        early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * self.interims
        return early + b"HTTP/1.1 %d Said\r\n" % self.status + lines + framing + b"\r\n" + content


answers = st.builds(
    Sent,
    status=st.sampled_from([200, 201, 400, 401, 404, 429, 500, 503, 529, 599]),
    headers=header_lists,
    parts=bodies,
    trailers=st.lists(st.tuples(names, values), max_size=2),
    framing=st.sampled_from(["sized", "chunked", "until the end"]),
    interims=st.integers(0, 2),
)


@st.composite
def in_parts(draw: st.DrawFn, wire: bytes) -> list[Step]:
    cuts = sorted(draw(st.sets(st.integers(1, max(len(wire) - 1, 1)), max_size=5)))
    ends = [0, *cuts, len(wire)]
    steps: list[Step] = []
    for start, end in itertools.pairwise(ends):
        steps += [wire[start:end], Pause(draw(st.sampled_from([0, 0, 0.001])))]
    return steps


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(answers).wire)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(wire)))
        length = draw(st.integers(0, 20))
        match draw(st.sampled_from(["cut", "insert", "repeat", "flip", "end"])):
            case "cut":
                del wire[place : place + length]
            case "insert":
                odd = st.sampled_from(
                    [b"\r\n", b"\n", b"\0", b"0\r\n\r\n", b": ", b"\r\n\r\n", ok(b"forged")]
                )
                wire[place:place] = draw(odd | st.binary(max_size=20))
            case "repeat":
                wire[place:place] = wire[place : place + length]
            case "flip" if place < len(wire):
                wire[place] ^= 1 << draw(st.integers(0, 7))
            case _:
                del wire[place:]
    return bytes(wire)


async def each(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@FUZZ
@given(data=st.data())
async def test_right_answers_are_read_right_one_after_another_however_they_come(data: st.DataObject) -> None:
    sent = data.draw(st.lists(answers, min_size=1, max_size=4))
    requests = [data.draw(bodies) for _ in sent]
    steps = [
        data.draw(in_parts(answer.wire)) + ([Close()] if answer.framing == "until the end" else [])
        for answer in sent
    ]
    upstream = RawUpstream(*steps)
    async with asyncio.timeout(10), talking(upstream) as (client, where):
        for answer, body in zip(sent, requests, strict=True):
            seen = await read(await client.send(where, b"POST", b"/", HEADERS, each(body)))
            assert seen.error is None
            assert (seen.status, seen.body) == (answer.status, b"".join(answer.parts))
            assert [pair for pair in seen.headers if pair[0].startswith(b"x-")] == answer.headers
    assert [bytes(request.body) for request in upstream.requests] == [b"".join(body) for body in requests]
    assert upstream.accepts == 1 + sum(answer.framing == "until the end" for answer in sent[:-1])


async def test_no_answer_goes_to_another_request_whoever_leaves_when() -> None:
    chance = random.Random(7)
    steps: list[Answer] = [
        [Pause(chance.choice([0, 0, 0.002])), Echo(), *chance.choice([[], [], [], [Close()], [b"more"]])]
        for _ in range(400)
    ]
    upstream = RawUpstream(*steps)
    right = 0

    async def ask(worker: int) -> None:
        nonlocal right
        for number in range(20):
            body = b"%d of %d " % (number, worker) * chance.randint(1, 2000)
            sending = client.send(
                where, b"POST", b"/", HEADERS, chance.choice([body, each([body[:7], body[7:]])])
            )
            try:
                async with asyncio.timeout(chance.choice([0.001, 0.01, *[10] * 6])):
                    response = await sending
            except (TimeoutError, UpstreamError):
                continue
            if chance.random() < 0.2:
                response.abort()
                continue
            seen = await read(response)
            assert seen.body == body
            assert seen.error is None
            right += 1

    async with talking(upstream) as (client, where):
        async with asyncio.TaskGroup() as group:
            for worker in range(20):
                group.create_task(ask(worker))
        assert client.connections <= 20
    assert right > 50
    assert upstream.accepts < len(upstream.requests)


@FUZZ
@given(wire=damaged() | st.binary(max_size=200), method=st.sampled_from([b"GET", b"HEAD", b"POST"]))
async def test_a_wrong_answer_ends_and_the_next_one_is_not_touched_by_it(wire: bytes, method: bytes) -> None:
    upstream = RawUpstream([wire, Pause(0.03), Close()], [ok(b"honest")])
    async with asyncio.timeout(10), talking(upstream) as (client, where):
        try:
            seen = await read(await client.send(where, method, b"/", HEADERS))
            assert seen.error is None or isinstance(seen.error, UpstreamError)
        except UpstreamError:
            pass
        assert (await read(await client.send(where, b"GET", b"/", HEADERS))).body == b"honest"
        assert client.connections <= 1


@FUZZ
@given(data=st.data())
async def test_a_wrong_answer_ends_the_same_however_it_comes(data: st.DataObject) -> None:
    wire = data.draw(damaged())
    ends: list[object] = []
    for steps in ([wire], data.draw(in_parts(wire))):
        async with asyncio.timeout(10), talking(RawUpstream([*steps, Close()])) as (client, where):
            try:
                seen = await read(await client.send(where, b"GET", b"/", HEADERS))
                ends.append((seen.status, seen.headers, seen.body, type(seen.error)))
            except UpstreamError as error:
                ends.append(type(error))
    assert ends[0] == ends[1]
