"""The clients of a proxy under measurement, and what the proxy's processes spent on them meanwhile.

Clients are raw connections in one process, so that they need little of a core. `json`: so many connections,
each with one request at a time. `paced`: so many requests a second. `streams`: so many new streams a second,
spread evenly; each event of a stream says when it left the provider. A run fails on any answer that is not
whole. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from statistics import median
from typing import Final

import psutil
import uvloop

from proxy_upstream import EVENTS

_PROMPT: Final = "Explain what a proxy does with an answer that it does not keep. " * 26
_STAMP: Final = re.compile(rb"\.\. (\d{19})")
_HELD_MS: Final = 10.0
_END_S: Final = 30.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request(path: str, key: str, headers: list[str], *, stream: bool) -> bytes:
    """Return a request of 2 KB, with the headers that an SDK sends."""
    message = {"role": "user", "content": _PROMPT}
    body = json.dumps(
        {"model": "claude-sonnet-4-5", "max_tokens": 1024, "stream": stream, "messages": [message]},
        separators=(",", ":"),
    )
    more = "".join(f"{header}\r\n" for header in headers)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n"
        f"content-type: application/json\r\n"
        f"user-agent: Anthropic/Python 0.75.0\r\nanthropic-version: 2023-06-01\r\nx-api-key: {key}\r\n"
        f"x-stainless-lang: python\r\nx-stainless-retry-count: 0\r\naccept-encoding: identity\r\n"
        f"{more}content-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


class Client(asyncio.Protocol):
    """One connection that sends one request after the other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own
        self.ask()

    def ask(self) -> None:
        """Send the request."""
        self._head, self._left = b"", -1
        self.asked_at = time.monotonic()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head = data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self._run.fail(data[:2000])
            length = _LENGTH.search(data, 0, end)
            # Without a length it is in chunks, and the last one is its end.
            self._left = int(length[1]) if length is not None else 1 << 60
            data = data[end + 4 :]
        self._left -= len(data)
        self.body(data)
        if self._left <= 0 or (self._left > 1 << 50 and data.endswith(b"0\r\n\r\n")):
            self._run.answered(self)

    def body(self, data: bytes) -> None:
        """Look at a part of the body."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._run.failed.done():
            self._run.fail(b"the connection was closed")


class StreamClient(Client):
    """One that looks at the events of its answers."""

    def ask(self) -> None:
        self.events = 0
        super().ask()

    def body(self, data: bytes) -> None:
        ended = data.count(b"\n\n")
        if not ended:
            return
        now = time.monotonic_ns()
        run = self._run
        if not self.events:
            run.first_ms.append(now / 1e6 - self.asked_at * 1e3)
        self.events += ended
        run.events += ended
        run.merged += ended - 1
        for stamp in _STAMP.findall(data):
            run.lag_ms.append((now - int(stamp)) / 1e6)


class Run:
    """What one run counts, from the end of its warm-up on."""

    def __init__(self, sent: bytes, pid: int) -> None:
        self.request = sent
        self.over = False
        """Nobody asks any more."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered: Callable[[Client], None]
        self._process = psutil.Process(pid)
        self.total = self.live = 0
        self.start()

    def start(self) -> None:
        """Count from here."""
        self.done = self.events = self.merged = 0
        self.ms: list[float] = []
        self.first_ms: list[float] = []
        self.lag_ms: list[float] = []
        self._cpu_s, self._began = self._spent(), time.monotonic()

    def noted(self, client: Client) -> None:
        """Count an answer."""
        self.done += 1
        self.total += 1
        self.ms.append((time.monotonic() - client.asked_at) * 1e3)

    def measured(self) -> dict[str, float]:
        """Return what was counted since `start`; of streams by their events, since few end within a run."""
        spent, elapsed = self._spent() - self._cpu_s, time.monotonic() - self._began
        done = self.events / EVENTS if self.events else self.done
        found = {"core": spent / elapsed, "per_s": done / elapsed, "cpu_ms": spent * 1e3 / max(done, 1)}
        if not self.events:
            return found | {"p50_ms": median(self.ms or [0.0])}
        found |= {"live": self.live, "events": self.events, "merged": self.merged}
        held = sum(lag > _HELD_MS for lag in self.lag_ms)
        return found | {"held": held, "first_ms": median(self.first_ms), "lag_ms": median(self.lag_ms)}

    async def end(self) -> None:
        """Ask no more, and wait for what is still to be answered."""
        self.over = True
        deadline = time.monotonic() + _END_S
        while self.live and not self.failed.done() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.live:
            self.fail(b"an answer did not come to its end")
        elif not self.failed.done():
            self.failed.set_result(None)
        self.failed.result()

    def fail(self, why: bytes) -> None:
        """End the run: what it measures is not what it should be."""
        if not self.failed.done():
            self.failed.set_exception(RuntimeError(why.decode(errors="replace")))

    def _spent(self) -> float:
        tree = [self._process, *self._process.children(recursive=True)]
        return sum(times.user + times.system for times in (process.cpu_times() for process in tree))


async def as_answered(run: Run, port: int, options: argparse.Namespace) -> dict[str, float]:
    """Ask as fast as the answers come."""

    def answered(client: Client) -> None:
        run.noted(client)
        if run.over:
            run.live -= 1
        else:
            client.ask()

    run.answered = answered
    loop = asyncio.get_running_loop()
    for run.live in range(1, options.connections + 1):
        await loop.create_connection(lambda: Client(run), "127.0.0.1", port)
    return await watched(run, options.warm, options.seconds)


async def paced(
    run: Run, port: int, options: argparse.Namespace, kind: type[Client], rate: float
) -> dict[str, float]:
    """Ask at a fixed rate, whatever becomes of what was asked before."""
    loop = asyncio.get_running_loop()
    resting: list[Client] = []
    opening: set[asyncio.Task[object]] = set()

    def answered(client: Client) -> None:
        run.noted(client)
        run.live -= 1
        resting.append(client)

    def begin() -> None:
        if resting:
            resting.pop().ask()
        else:
            task = asyncio.ensure_future(loop.create_connection(lambda: kind(run), "127.0.0.1", port))
            opening.add(task)
            task.add_done_callback(opening.discard)
        run.live += 1

    run.answered = answered
    began = loop.time()
    for number in range(int(rate * (options.warm + options.seconds))):
        loop.call_at(began + number / rate, begin)
    return await watched(run, options.warm, options.seconds)


async def watched(run: Run, warm_s: float, seconds: float) -> dict[str, float]:
    """Let a run go on for so long, and end it."""
    await asyncio.wait({run.failed}, timeout=warm_s)
    run.start()
    await asyncio.wait({run.failed}, timeout=seconds)
    found = run.measured()
    await run.end()
    return found | {"total": run.total}


async def measured(options: argparse.Namespace) -> dict[str, float]:
    """Run it once."""
    sent = request(options.path, options.key, options.header, stream=options.what == "streams")
    run = Run(sent, options.pid)
    if options.what == "json":
        return await as_answered(run, options.port, options)
    if options.what == "paced":
        return await paced(run, options.port, options, Client, options.rate)
    return await paced(run, options.port, options, StreamClient, options.streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("json", "paced", "streams"))
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int, help="whose CPU time is read, with all of its children")
    parser.add_argument("--path", default="/v1/messages")
    parser.add_argument("--key", default="none")
    parser.add_argument("--header", action="append", default=[], help="name: value")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second, paced")
    parser.add_argument("--streams", type=float, default=110, help="new streams a second")
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    print(json.dumps(uvloop.run(measured(options))))


if __name__ == "__main__":
    main()
