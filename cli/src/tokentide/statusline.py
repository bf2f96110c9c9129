"""`tokentide statusline`: a line for Claude Code; what it tells of limits goes on to the server."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from tokentide.connection import default_state_dir
from tokentide.failures import Exit, Failure
from tokentide.options import DataDir, IngestUrl, Key, MachineId, StateDir
from tokentide.status_errand import Errand
from tokentide.status_line import read_status, status_line
from tokentide.status_memory import StatusMemory

_MOST_BYTES: Final = 2**20


def statusline(
    *,
    machine: MachineId = None,
    url: IngestUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> int:
    """Print a line for Claude Code's status line from the JSON that it writes to standard input.

    Model, cost of the session, cost of today where an API key is known, and how full the 5-hour and weekly
    windows are. How full they are is sent to the server too, behind its back: nothing delays the line.
    """
    if sys.stdin.isatty():
        raise Failure(
            "there is nothing to read",
            hint='name this command in Claude Code\'s settings: "statusLine": {"type": "command", …}',
            code=Exit.USAGE,
        )
    status = read_status(sys.stdin.buffer.read(_MOST_BYTES), datetime.now(UTC))
    folder = state_dir or default_state_dir()
    memory, day = StatusMemory(folder), f"{datetime.now():%Y-%m-%d}"
    sys.stdout.write(status_line(status, memory.today(day)) + "\n")
    sys.stdout.flush()
    news, ask_today = memory.has_news(status), memory.today_is_old(day)
    if news:
        memory.tries(status)
    if ask_today:
        memory.costs(day, memory.today(day))
    if news or ask_today:
        _send(
            Errand(
                state_dir=str(folder),
                data_dir=None if data_dir is None else str(data_dir),
                url=url,
                key=key,
                machine=machine,
                day=day,
                session=status.session,
                windows=status.windows if news else (),
                ask_today=ask_today,
            )
        )
    return Exit.OK


def _send(errand: Errand) -> None:
    """Let another process go: the line is done, whatever the network does."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokentide.status_report"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # it goes on when whoever asked for the line is gone
        )
        assert process.stdin is not None
        # Not as arguments: every user of this machine can read those. A pipe takes so little without waiting.
        with process.stdin as pipe:
            pipe.write(msgspec.json.encode(errand))
    except OSError:
        return
