"""Talks to providers: HTTP/1.1 over pooled connections.

No redirects, no proxies of the environment, no cookies: what is sent is what was given.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Final

from tokentide_proxy.addresses import addresses_of
from tokentide_proxy.connection import Asker, Connection, Origin
from tokentide_proxy.exchange import Headers, Upstream
from tokentide_proxy.pool import Pool
from tokentide_proxy.response import Response
from tokentide_proxy.tls import verifying_context
from tokentide_proxy.upstream_errors import (
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from tokentide_proxy.upstream_limits import UpstreamLimits
from tokentide_proxy.upstream_request import UpstreamRequest, wire_request

_PROBE_AFTER_S: Final = 60
"""Of silence: a model may think for longer than a router remembers a silent connection."""


class UpstreamClient:
    """One for each event loop. `stop` closes whatever is open, so let live streams end before."""

    def __init__(
        self,
        limits: UpstreamLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        repeated: Callable[[Upstream], None] | None = None,
    ) -> None:
        self._repeated = repeated
        """Told of each request that is sent once more."""
        self._limits = limits or UpstreamLimits()
        self._pool = Pool(self._limits)
        self._tls = tls

    @property
    def connections(self) -> int:
        """How many connections are open, at rest or not."""
        return self._pool.size

    @property
    def idle_connections(self) -> int:
        """How many of them are at rest."""
        return self._pool.idle

    async def start(self) -> None:
        """Load the certificates, so that no request waits for that."""
        self._pool.open()
        await self._trust()

    async def stop(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def send(
        self,
        upstream: Upstream,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: AsyncIterator[bytes] | bytes | None = None,
    ) -> Response:
        """Send a request and return its answer as soon as the head of it is there.

        Headers go as they are given, names in lower case, `host` among them; only the framing of a body whose
        length is not given is added. Raises an `UpstreamError`, `InvalidRequest` for what cannot be sent, or
        whatever the body raises. Cancelling closes the connection.
        """
        request = wire_request(method, target, headers, body)
        origin = (upstream.scheme, upstream.host, upstream.port, upstream.allow_private)
        connection = self._pool.lend(origin)
        if connection is not None:
            try:
                return await _exchange(connection, request)
            except UpstreamBroken:
                # Only what cannot have been worked on is sent again, and only a body that is still all there.
                if request.whole is None or not connection.died_of_idleness():
                    raise
                self.repeats(upstream)
        return await _exchange(await self._connected(upstream, origin), request)

    def at_once(self, upstream: Upstream, request: UpstreamRequest, asker: Asker) -> Connection | None:
        """Send a request over a connection at rest; None: there is none.

        What fails is not tried again here: see `Connection.died_of_idleness`.
        """
        connection = self._pool.lend((upstream.scheme, upstream.host, upstream.port, upstream.allow_private))
        if connection is not None:
            connection.exchange(request, asker)
        return connection

    def repeats(self, upstream: Upstream) -> None:
        """Note that a request is sent once more."""
        if self._repeated is not None:
            self._repeated(upstream)

    async def _connected(self, upstream: Upstream, origin: Origin) -> Connection:
        deadline = monotonic() + self._limits.connect_s
        try:
            async with asyncio.timeout(self._limits.connect_s):
                addresses = await addresses_of(upstream)
            for left in range(len(addresses), 0, -1):
                # Each address has its share of the time: one that is silent does not use up the others'.
                try:
                    async with asyncio.timeout((deadline - monotonic()) / left):
                        return await self._connect(upstream, origin, addresses[-left])
                except OSError:
                    if left == 1:
                        raise
        except TimeoutError as error:
            raise UpstreamTimeout(f"upstream {upstream.name!r} accepts no connection") from error
        except OSError as error:
            # The kind of the error only: messages of TLS name what a certificate says.
            raise UpstreamUnreachable(f"upstream {upstream.name!r}: {type(error).__name__}") from error
        raise UpstreamUnreachable(f"upstream {upstream.name!r} has no address")

    async def _connect(self, upstream: Upstream, origin: Origin, address: str) -> Connection:
        secure = upstream.scheme == "https"
        # The address, not the name: what was checked is what is connected to.
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: self._pool.made(origin),
            address,
            upstream.port,
            ssl=await self._trust() if secure else None,
            server_hostname=upstream.host if secure else None,
        )
        self._pool.add(connection)
        _probe_in_silence(transport.get_extra_info("socket"))
        return connection

    async def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(verifying_context)
        return self._tls


class _Awaited:
    """Waits in a task for the answer to its request."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answered(self, response: Response) -> None:
        if self.answer.done():
            response.abort()  # nobody waits for it
        else:
            self.answer.set_result(response)

    def unanswered(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def _exchange(connection: Connection, request: UpstreamRequest) -> Response:
    awaited = _Awaited()
    try:
        connection.exchange(request, awaited)
        return await awaited.answer
    except asyncio.CancelledError:
        connection.abort()
        raise


def _probe_in_silence(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
