"""Serve an ASGI app inside a running event loop, next to others, as often as one likes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import uvicorn

from tokentide_common.bounded_head import BoundedHead
from tokentide_common.errors import TokentideError


@contextlib.asynccontextmanager
async def serving(
    app: Callable[..., Any],
    *,
    host: str,
    port: int | socket.socket,
    drain_s: int = 10,
    options: Mapping[str, Any] | None = None,
) -> AsyncIterator[int]:
    """Serve an app (0: any free port) and yield the port once it answers; drain it at the end.

    `port` may be what `listening` returned, for an app that has to know its address before.
    Signals are left to the process. `options` go to `uvicorn.Config`. Raises a `TokentideError` when the
    address is taken or the app does not start.
    """
    listener = port if isinstance(port, socket.socket) else listening(host, port)
    number = listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        log_config=None,  # the process has configured its logs
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # the peer is who is connected, whatever a header says
        timeout_graceful_shutdown=drain_s,
        **{"http": BoundedHead, **(options or {})},
    )
    server = _Server(config)
    task = asyncio.create_task(_run(server, listener), name=f"serving-{number}")
    answering = asyncio.create_task(server.answering.wait())
    try:
        await asyncio.wait({task, answering}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield number
    finally:
        answering.cancel()
        server.should_exit = True
        with contextlib.closing(listener):
            await asyncio.wait({task})


async def stop_requested() -> None:
    """Wait for SIGTERM or SIGINT.

    After that, a second SIGTERM changes nothing, so that a drain under way is finished; a second Ctrl-C ends
    the process.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
    except asyncio.CancelledError:
        loop.remove_signal_handler(signal.SIGTERM)
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class _Server(uvicorn.Server):
    """A server that says when it answers and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: several servers share the process, and none of them owns it."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.answering.set()


async def _run(server: _Server, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit as exc:  # uvicorn would end the whole process, and the other services with it
        raise TokentideError("the app did not start; the log says why", code="start_failed") from exc


def listening(host: str, port: int) -> socket.socket:
    """Return a socket whose address (0: any free port) nobody else gets. Raises a `TokentideError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise TokentideError(
            f"cannot listen on {host}:{port}: {exc.strerror}", code="address_in_use"
        ) from exc
    listener.setblocking(False)
    return listener
