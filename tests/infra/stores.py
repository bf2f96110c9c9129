"""Stores that tests run against as services: a URL, and ways to hurt them."""

from __future__ import annotations

import json
import sys
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from infra.databases import LENT
from infra.process import Process, free_port, listens
from tokentide_common.store import connect

_OF_TESTS = (
    "SELECT name FROM system.databases WHERE lower(name) NOT IN ('system', 'information_schema', 'default') "
    f"AND NOT startsWith(name, '{LENT}')"
)


class StoreService(Protocol):
    """A store that is a service of its own; `url` names no database, `database_url` does."""

    name: str
    url: str

    def database_url(self, database: str) -> str: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def restart(self) -> None: ...
    def stop(self) -> None: ...


class ClickHouseProcess:
    """The embedded engine in a process of its own, behind ClickHouse's HTTP protocol."""

    name = "clickhouse-process"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"clickhouse://127.0.0.1:{self.port}"
        self._turn = 0
        self.folder = folder / "clickhouse"
        program = Path(__file__).parent / "clickhouse_process.py"
        # As compose.yaml starts a server.
        started_by = files("tokentide_common") / "forget_lost_tokens.sh"
        self._process = Process(
            [
                *("sh", str(started_by), str(self.folder)),
                *(sys.executable, str(program), str(self.folder), str(self.port)),
            ],
            log=folder / "clickhouse.log",
            ready=lambda: listens(self.port),
            # A kill leaves temporary files of inserts behind: they belong to the test's folder.
            environment={"TMPDIR": str(folder)},
        )
        self._process.start()
        self.kill, self.stop = self._process.kill, self._process.stop
        self.pause, self.resume = self._process.pause, self._process.resume
        self.restart = self._process.restart

    def database_url(self, database: str) -> str:
        # Of each test its own: what a slow insert of the one before still brings must not be found in it.
        return f"{self.url}/{database}_{self._turn}"

    def heal(self) -> None:
        """Undo what a test has done to it: the next one finds it as if it were new."""
        self._turn += 1
        self.resume()
        if not self._process.alive:
            self._process.start()
        self.fault()
        client = connect(self.url, 30)
        for (name,) in client.query(_OF_TESTS).result_rows:
            client.command(f"DROP DATABASE `{name}`")
        client.close()

    def fault(self, **fields: Any) -> None:
        """Put a fault in force (see `clickhouse_process`); without arguments, heal."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/__fault", data=json.dumps(fields).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
