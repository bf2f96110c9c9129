"""`tokentide push`: send what is new in Claude Code's logs."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.collecting import Collector
from tokentide.connection import Connection, default_state_dir, find_connection
from tokentide.failures import Exit, Failure
from tokentide.http import open_client
from tokentide.log_files import log_roots, session_files
from tokentide.machine import Machine, this_machine
from tokentide.options import DataDir, IngestUrl, Json, Key, MachineId, StateDir
from tokentide.push_report import Summary, progress_over, report
from tokentide.push_state import PushState
from tokentide.sending import Patience, Sender
from tokentide.terminal import notes, write_lines
from tokentide_common.events import encode_event
from tokentide_common.session_totals import encode_totals

# A batch of 1000 is taken in well under a second; an embedded server first stores it.
_ANSWER_TIMEOUT_S = 60.0


def push(
    *,
    dry_run: Annotated[
        bool,
        Parameter(negative="", help="Print what would be sent as JSON lines; send nothing."),
    ] = False,
    as_json: Json = False,
    wait: Annotated[
        int,
        Parameter(help="Seconds to wait for each batch to be stored.", validator=Number(gte=0)),
    ] = 0,
    give_up_after: Annotated[
        float, Parameter(help="Seconds to keep trying while the server is away.", validator=Number(gte=0))
    ] = 120.0,
    resend: Annotated[
        bool,
        Parameter(negative="", help="Send everything again; nothing is counted twice."),
    ] = False,
    machine: MachineId = None,
    url: IngestUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> int:
    """Send what is new in Claude Code's logs: token counts, models, times and ids, never any content.

    Logs are found where `CLAUDE_CONFIG_DIR` says (several folders separated by commas), else in
    `$XDG_CONFIG_HOME/claude` and `~/.claude`.
    """
    folder = state_dir or default_state_dir()
    paths = _logs()
    sender = this_machine(folder, machine_id=machine, keep=not dry_run)
    try:
        connection = find_connection("ingest", url, key, data_dir)
    except Failure:
        if not dry_run:
            raise
        connection = Connection("", "")  # no server yet: it would get everything
    state = PushState(marks_file(folder, connection, sender), fresh=resend)
    if dry_run:
        return _show(paths, state, sender)
    patience = Patience(give_up_after_s=give_up_after)
    with open_client(connection, timeout_s=_ANSWER_TIMEOUT_S + wait) as client:
        summary, failure = push_logs(
            paths, state, Sender(client, connection, sender, patience=patience, wait_s=wait)
        )
    report(summary, failure, as_json=as_json)
    if failure is not None:
        return failure.code
    return Exit.FAILED if summary.rejected else Exit.OK


def push_logs(paths: list[Path], state: PushState, sender: Sender) -> tuple[Summary, Failure | None]:
    """Send everything new in these files; return what was done, and the failure that ended it early."""
    collector = Collector(state)
    summary = Summary(collector.counts)
    failure: Failure | None = None
    try:
        with progress_over(len(paths), summary) as show:
            for batch in collector.batches(paths):
                if batch.events or batch.totals:
                    summary.add(batch, sender.send(batch.events, batch.totals))
                # Only now: whatever is marked as sent is in the server's hands.
                state.advance(batch.marks)
                show()
        state.forget_vanished()
        state.completed(datetime.now(UTC))
    except Failure as ended:
        failure = ended
    finally:
        state.save()
    summary.retries = sender.retries
    return summary, failure


def _show(paths: list[Path], state: PushState, machine: Machine) -> int:
    notes().print(f"machine: id {machine.id}, name {machine.name} (sent with every batch)", markup=False)
    collector = Collector(state)
    for batch in collector.batches(paths):
        write_lines(*map(encode_event, batch.events), *map(encode_totals, batch.totals))
    counts = collector.counts
    notes().print(
        f"{counts.events} events and {counts.totals} session totals from {counts.files_read} files"
        " would be sent"
    )
    return Exit.OK


def _logs() -> list[Path]:
    roots = log_roots(os.environ, Path.home())
    paths = session_files(roots)
    if not paths:
        looked = ", ".join(str(root / "projects") for root in roots)
        notes().print(f"no Claude Code logs found in {looked}", markup=False)
    return paths


def marks_file(folder: Path, connection: Connection, machine: Machine) -> Path:
    """Return the file of marks for a server, an organisation (by its key) and a machine."""
    return folder / "sent" / f"{connection.fingerprint_for(machine.id)}.json"
