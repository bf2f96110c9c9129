"""The least that a proxy in Python takes: llhttp on both sides, kept connections, and no check of anything.

No key, no usage, no event, no bounds, no time-outs, no back-pressure: what it costs is the limit of what can
be saved, not what could serve anybody. `python benchmarks/proxy_floor.py PORT UPSTREAM_PORT`
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import httptools
import uvloop

from tokentide_proxy.__main__ import tune_garbage_collection


class _Provider(asyncio.Protocol):
    """A connection to the provider, lent to one client for one answer."""

    def __init__(self, resting: list[_Provider]) -> None:
        self.client: _Client | None = None
        self._resting = resting
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own

    def data_received(self, data: bytes) -> None:
        assert self.client is not None, "an answer has been asked for"
        self.client.transport.write(data)
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Be called, as anything that looks at headers is."""

    def on_message_complete(self) -> None:
        self.client = None
        self._resting.append(self)


class _Client(asyncio.Protocol):
    """A client's connection: each request is put together anew and sent on."""

    def __init__(self, resting: list[_Provider], upstream: int) -> None:
        self._resting, self._upstream = resting, upstream
        self._parser = httptools.HttpRequestParser(self)
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._headers, self._body = url, list[tuple[bytes, bytes]](), b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        headers = b"".join([b"%b: %b\r\n" % header for header in self._headers])
        request = b"POST %b HTTP/1.1\r\n%b\r\n%b" % (self._url, headers, self._body)
        if self._resting:
            self._send(self._resting.pop(), request)
        else:
            self._opening = asyncio.ensure_future(self._open(request))

    def _send(self, provider: _Provider, request: bytes) -> None:
        provider.client = self
        provider.transport.write(request)

    async def _open(self, request: bytes) -> None:
        loop, made = asyncio.get_running_loop(), partial(_Provider, self._resting)
        self._send((await loop.create_connection(made, "127.0.0.1", self._upstream))[1], request)


async def main() -> None:
    port, upstream = int(sys.argv[1]), int(sys.argv[2])
    made = partial(_Client, [], upstream)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", port, backlog=1024)
    tune_garbage_collection()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
