"""A TCP proxy that hurts: latency, silence, resets, refusals.

It runs in a thread of its own, so that a test whose event loop is busy does not slow the network too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

from infra.process import free_port

_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with time 0: close sends RST, not FIN


class FaultProxy:
    """Forwards `127.0.0.1:port` to `127.0.0.1:target_port`, and fails on demand.

    Every fault holds until `heal`. `target_port` may be set after the proxy exists, since a broker has to
    know its advertised address before it starts.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.target_port = 0
        self._delay_s = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def delay(self, seconds: float) -> None:
        """Hold every piece of data back for so long, in both directions."""
        self._delay_s = seconds

    def blackhole(self) -> None:
        """Accept connections and data, forward nothing, and close nothing: the worst kind of outage."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def reset(self) -> None:
        """Cut every present connection with RST; new ones work."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""
        self._call(self._refuse())

    def heal(self) -> None:
        """Forward again. Connections that were cut stay cut; held data goes on its way."""
        self._delay_s = 0.0
        self._loop.call_soon_threadsafe(self._open.set)
        self._call(self._listen())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)
        self._call(self._refuse())
        self._call(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            writer.transport.abort()

    async def _end_tasks(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(inner_writer)
            try:
                await asyncio.gather(self._forward(reader, inner_writer), self._forward(inner_reader, writer))
            finally:
                self._writers.discard(inner_writer)
                inner_writer.transport.abort()
        except OSError:
            return  # one side is away: so is the other one now
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._open.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            writer.write(data)
            await writer.drain()
        # One side ended: end the other one as well, or an answer could be waited for that never comes.
        raise ConnectionResetError
