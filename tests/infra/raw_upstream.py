"""An HTTP upstream that writes exactly the bytes a test says, when it says, and sees everything that comes.

    upstream = RawUpstream([b"HTTP/1.1 200 OK\\r\\n", Pause(0.01), b"content-length: 2\\r\\n\\r\\nok"])
    async with upstream:
        ...  # talk to 127.0.0.1:upstream.port
    assert upstream.accepts == 1

Each answer is a list of steps: bytes to write, or one of the steps below. The n-th request gets the n-th
answer, whatever its connection; the last answer is given again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with time 0: close sends RST, not FIN


@dataclass(frozen=True)
class Pause:
    """Let the time pass. `Pause(0)` only lets others run, which makes a read of its own likely."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Hold:
    """Go on when the test says so."""

    until: asyncio.Event


class Early:
    """As the first step: the answer does not wait for the body of the request, only for its head."""


class ReadBody:
    """Read the rest of the request now (after `Early`)."""


class Echo:
    """Answer with the body of the request, in two chunks."""


class Close:
    """Close the connection in the orderly way (FIN)."""


class Reset:
    """Close the connection in the rude way (RST)."""


class Stall:
    """Say nothing more, and stay until the client has gone."""


Flow = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Whatever else a test wants written: it is handed the writer."""
Step = bytes | Pause | Hold | Early | ReadBody | Echo | Close | Reset | Stall | Flow
Answer = Sequence[Step]


@dataclass
class Received:
    """A request as it came. The body is without transfer coding; `raw` is what came after the head."""

    head: bytes
    connection: int
    body: bytearray = field(default_factory=bytearray)
    raw: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    complete: bool = False

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line)
        return [(name, value.strip()) for name, _, value in pairs]

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known.lower() == name), None)


class RawUpstream:
    """Serves on a free port of 127.0.0.1 between `start` and `stop`, or as an async context manager."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None, keep_bodies: bool = True) -> None:
        self.answers = list(answers)
        self.port = 0
        self.accepts = 0
        """Connections that came: how a test counts reuse."""
        self.requests: list[Received] = []
        self.gone = asyncio.Event()
        """Set whenever a client has closed a connection, at the moment that is seen here."""
        self.sent = 0
        """Bytes of answers that were taken off our hands."""
        self._tls = tls
        self._keep_bodies = keep_bodies
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.close_connections()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close_connections(self) -> None:
        """Close what is open, idle or not."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepts += 1
        number = self.accepts
        try:
            while await self._exchange(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, which `gone` tells, or `stop` was called
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()
            self.gone.set()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        request = Received(await reader.readuntil(b"\r\n\r\n"), number)
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        if not (answer and isinstance(answer[0], Early)):
            await self._read_body(reader, request)
        for step in answer:
            if isinstance(step, ReadBody):
                await self._read_body(reader, request)
            elif isinstance(step, Echo):
                half = len(request.body) // 2
                await self._take(streamed(bytes(request.body[:half]), bytes(request.body[half:])), writer)
            elif isinstance(step, Stall):
                await reader.read()
                return False
            elif not await self._take(step, writer):
                return False
        return True

    async def _take(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
                self.sent += len(step)
            case Pause():
                await asyncio.sleep(step.seconds)
            case Hold():
                await step.until.wait()
            case Close():
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return False
            case Reset():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                writer.transport.abort()
                return False
            case _ if callable(step):
                await step(writer)
        return True

    async def _read_body(self, reader: asyncio.StreamReader, request: Received) -> None:
        if request.complete:
            return
        length = request.header(b"content-length")
        if (request.header(b"transfer-encoding") or b"").lower() == b"chunked":
            pieces = self._chunks(reader, request)
        else:
            pieces = _exactly(reader, int(length or 0))
        async for piece in pieces:
            request.body_bytes += len(piece)
            if self._keep_bodies:
                request.body += piece
        request.complete = True

    async def _chunks(self, reader: asyncio.StreamReader, request: Received) -> AsyncIterator[bytes]:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            data = await reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if self._keep_bodies:
                request.raw += line + data
            if not size:
                return
            yield data[:-2]


async def _exactly(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        piece = await reader.read(min(length, 1 << 16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
        yield piece


def ok(body: bytes = b"ok", *headers: tuple[bytes, bytes], status: bytes = b"200 OK") -> bytes:
    """An ordinary answer with a content-length."""
    lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


def chunked(*pieces: bytes, trailers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The body of a chunked answer."""
    end = b"".join(name + b": " + value + b"\r\n" for name, value in trailers)
    return (
        b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
        + b"0\r\n"
        + end
        + b"\r\n"
    )


def streamed(*pieces: bytes, content_type: bytes = b"text/event-stream") -> bytes:
    """A whole chunked answer, one chunk for each piece."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + content_type + b"\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + chunked(*pieces)
