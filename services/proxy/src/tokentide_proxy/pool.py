"""The connections there are: those at rest are lent again, and all are looked after."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from tokentide_proxy.connection import Connection, Origin
from tokentide_proxy.outgoing import Outgoing
from tokentide_proxy.upstream_limits import UpstreamLimits

_SWEEPS_PER_LIMIT: Final = 10
_MAX_SWEEP_S: Final = 1.0


class Pool:
    """Lends the connection that was used last: it is the least likely to be closed by now."""

    def __init__(self, limits: UpstreamLimits) -> None:
        self._limits = limits
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._closed = False
        self._outgoing = Outgoing()
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None
        shortest = min(limits.first_byte_s, limits.idle_s, limits.keep_alive_s)
        self._sweep_s = min(shortest / _SWEEPS_PER_LIMIT, _MAX_SWEEP_S)

    @property
    def size(self) -> int:
        """Connections that are open, at rest or not."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait to be lent again."""
        return sum(map(len, self._idle.values()))

    def open(self) -> None:
        """Take connections, also after `close`."""
        self._closed = False

    def made(self, origin: Origin) -> Connection:
        """Return a new connection, for the event loop to connect."""
        return Connection(origin, self, self._limits, asyncio.get_running_loop(), self._outgoing)

    def add(self, connection: Connection) -> None:
        """Look after a connection that the event loop has connected; `OSError`: it is lost already."""
        if self._closed or not connection.usable:
            connection.abort()
            raise ConnectionAbortedError
        self._open.add(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    def lend(self, origin: Origin) -> Connection | None:
        """Return a connection at rest, if there is one."""
        resting = self._idle.get(origin)
        while resting:
            connection = resting.pop()
            if connection.usable and monotonic() - connection.opened_at < self._limits.max_age_s:
                return connection
            connection.abort()
        return None

    def keep(self, connection: Connection) -> None:
        """Take back a connection that is ready for another exchange."""
        resting = self._idle.setdefault(connection.origin, [])
        if len(resting) < self._limits.max_idle:
            resting.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        self._open.discard(connection)
        resting = self._idle.get(connection.origin, [])
        if connection in resting:
            resting.remove(connection)
        if not self._open and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    async def close(self) -> None:
        """Close every connection, in whatever it is, and wait until they are closed."""
        self._closed = True
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_closed = asyncio.get_running_loop().create_future()
            await self._all_closed
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        now = monotonic()
        for connection in tuple(self._open):
            connection.check(now)
        self._sweeper = (
            asyncio.get_running_loop().call_later(self._sweep_s, self._sweep) if self._open else None
        )
