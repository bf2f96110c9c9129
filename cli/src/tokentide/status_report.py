"""What the status line leaves to a process of its own: tell the server of windows, ask what today cost."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import httpx
import msgspec

from tokentide.connection import Connection, find_connection
from tokentide.failures import Failure
from tokentide.http import open_client
from tokentide.machine import Machine, this_machine
from tokentide.periods import local_zone, period_parameters
from tokentide.status_errand import Errand
from tokentide.status_line import Window
from tokentide.status_memory import StatusMemory
from tokentide.usage_queries import UsageQueries

_TIMEOUT_S: Final = 10.0
_API_KEY: Final = "tt_a_"


def main() -> None:
    """Do what standard input asks for. There is nobody to tell of a failure: the next line tries again."""
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    state_dir, data_dir = Path(errand.state_dir), Path(errand.data_dir) if errand.data_dir else None
    memory = StatusMemory(state_dir)
    if errand.windows:
        with contextlib.suppress(Failure, httpx.HTTPError):
            connection = find_connection("ingest", errand.url, errand.key, data_dir)
            if tell(connection, errand.windows, this_machine(state_dir, machine_id=errand.machine)):
                memory.told(errand.session, errand.windows)
    if errand.ask_today:
        with contextlib.suppress(Failure, InvalidOperation):
            url = os.environ.get("TOKENTIDE_QUERY_URL")
            connection = find_connection("query", url, errand.key, data_dir)
            if connection.key.startswith(_API_KEY):
                memory.costs(errand.day, _cost_of_today(connection))


def tell(connection: Connection, windows: Sequence[Window], machine: Machine) -> bool:
    """Send windows and say whether the server took them: these, this machine's id and name, nothing else."""
    body = {"machine": machine, "limits": windows}
    with open_client(connection, timeout_s=_TIMEOUT_S) as client:
        answer = client.post(
            "/api/v1/cli/limits",
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )
    return answer.is_success


def _cost_of_today(connection: Connection) -> Decimal:
    summary = UsageQueries(connection, period_parameters("today", local_zone())).summary()
    return Decimal(str(summary.get("cost_usd")))


if __name__ == "__main__":
    main()
