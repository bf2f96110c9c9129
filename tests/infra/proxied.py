"""The proxy in front of a scripted upstream, on a real server, with what it has noted at hand.

async with proxied(RawUpstream([ok(b"{}")])) as proxy:
    answer = await proxy.ask(post(b"/v1/messages", b"{}"))
assert proxy.events[0].status == "ok"
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from infra.raw_upstream import RawUpstream
from infra.waiting import until
from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import RateLimited, Unauthorized
from tokentide_common.events import UsageEvent
from tokentide_common.limit_facts import LimitFact
from tokentide_common.metrics import Metrics
from tokentide_common.probes import nothing_needed
from tokentide_common.serving import serving
from tokentide_proxy.app import ProxyApp
from tokentide_proxy.client_connection import client_connections
from tokentide_proxy.client_heads import ClientLimits
from tokentide_proxy.control import Control
from tokentide_proxy.exchange import Admission, Headers, Observer, Upstream
from tokentide_proxy.forwarding import Forwarder
from tokentide_proxy.limit_headers import limit_facts
from tokentide_proxy.recorder import Recorder
from tokentide_proxy.routing import Routes
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_limits import UpstreamLimits
from tokentide_proxy.upstream_table import upstreams

KEY = KeyRecord(key_id="key_1", org_id="org_1", kind="p", user_id="dev", team="core")
HEAD_END = b"\r\n\r\n"


@dataclass
class Answer:
    """An answer as it came over the wire."""

    head: bytes
    chunks: list[bytes] = field(default_factory=list)
    """One for each chunk; of an answer with a length, one for all."""
    whole: bool = False
    """Its own end was there: the last chunk, or the length that it announced."""

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def headers(self) -> Headers:
        pairs = (line.partition(b": ") for line in self.head.split(b"\r\n")[1:] if line)
        return [(name, value) for name, _, value in pairs]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)


class RawClient:
    """A client that writes what it is told and reads what comes, and no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answer:
        return Answer(await self.reader.readuntil(HEAD_END))

    async def chunk(self) -> bytes:
        """The next chunk, b"" for the last one."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self, *, bodiless: bool = False) -> Answer:
        answer = await self.head()
        if bodiless or answer.status in {204, 304}:
            answer.whole = True
            return answer
        try:
            if (length := answer.header(b"content-length")) is not None:
                answer.chunks = [await self.reader.readexactly(int(length))]
            else:
                while chunk := await self.chunk():
                    answer.chunks.append(chunk)
            answer.whole = True
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                answer.chunks.append(error.partial)
        return answer

    async def everything(self) -> bytes:
        """All bytes until the other side closes."""
        read = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(1 << 16):
                read += data
        return read

    def leave(self) -> None:
        self.writer.transport.abort()


class OpenGate:
    """Lets everybody in but who asks to be refused."""

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        if (b"x-refuse", b"me") in headers:
            raise Unauthorized("no")
        return Admission(KEY, "local", target, headers)

    def admit_at_once(
        self, upstream: Upstream, target: bytes, headers: Headers, peer: str
    ) -> Admission | None:
        return None if (b"x-refuse", b"me") in headers else Admission(KEY, "local", target, headers)

    def still_admits(self, admission: Admission, upstream: Upstream) -> bool:
        return True

    def over_budget(self, admission: Admission, method: bytes) -> RateLimited | None:
        return None


@dataclass
class Proxied:
    """The running proxy."""

    upstream: RawUpstream
    metrics: Metrics
    client: UpstreamClient = field(init=False)
    forwarder: Forwarder = field(init=False)
    port: int = 0
    events: list[UsageEvent] = field(default_factory=list)
    limits: list[LimitFact] = field(default_factory=list)

    def offer(self, event: UsageEvent) -> None:
        self.events.append(event)

    def offer_limits(self, headers: Headers, seen: Observer) -> None:
        self.limits.extend(limit_facts(headers, seen))

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[RawClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            yield RawClient(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, request: bytes, *, bodiless: bool = False) -> Answer:
        async with self.connected() as client:
            client.send(request)
            return await client.answer(bodiless=bodiless)

    async def event(self) -> UsageEvent:
        """The one event, which may come a moment after the answer."""
        await until(lambda: self.events)
        assert len(self.events) == 1
        return self.events[0]


@contextlib.asynccontextmanager
async def proxied(
    upstream: RawUpstream,
    *,
    limits: UpstreamLimits | None = None,
    client_limits: ClientLimits | None = None,
    max_body_bytes: int = 1 << 30,
    drain_s: int = 1,
) -> AsyncIterator[Proxied]:
    """The scripted upstream is all of them: Anthropic at `/`, OpenAI at `/openai`, Gemini at `/gemini`."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(upstream)
        base = f"http://127.0.0.1:{upstream.port}"
        table = upstreams(
            [f"anthropic=anthropic+{base}", f"openai=openai+{base}/v1", f"gemini=gemini+{base}"]
        )
        proxy = Proxied(upstream, Metrics())
        recorder = Recorder(proxy, proxy.metrics)
        proxy.client = client = UpstreamClient(limits, repeated=recorder.repeated)
        await client.start()
        stack.push_async_callback(client.stop)
        proxy.forwarder = forwarder = Forwarder(
            Routes(table),
            OpenGate(),
            client,
            recorder,
            max_body_bytes=max_body_bytes,
            stream_usage=True,
        )
        app = ProxyApp(forwarder, Control(proxy.metrics, nothing_needed))
        options = {
            "http": client_connections(client_limits or ClientLimits()),
            "ws": "none",
            "date_header": False,
        }
        proxy.port = await stack.enter_async_context(
            serving(app, host="127.0.0.1", port=0, drain_s=drain_s, options=options)
        )
        yield proxy


def post(target: bytes, body: bytes = b"", *headers: tuple[bytes, bytes]) -> bytes:
    """A request with a body of known length."""
    lines = [b"POST " + target + b" HTTP/1.1", b"Host: proxy.example", *map(b": ".join, headers)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def bare(method: bytes, target: bytes, *headers: tuple[bytes, bytes]) -> bytes:
    """A request without a body."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: proxy.example", *map(b": ".join, headers)]
    return b"\r\n".join([*lines, b"", b""])
