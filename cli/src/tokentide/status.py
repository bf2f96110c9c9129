"""`tokentide status`: who this machine is, where, and what waits to be pushed."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import msgspec

from tokentide.account_requests import AccountRequests, segment
from tokentide.account_tables import moment
from tokentide.collecting import Collector
from tokentide.connection import Connection, Service, default_state_dir, usual_connection
from tokentide.failures import Exit, Failure
from tokentide.http import open_client
from tokentide.log_files import log_roots, session_files
from tokentide.machine import Machine, this_machine
from tokentide.options import DataDir, Json, MachineId, StateDir
from tokentide.push import marks_file
from tokentide.push_state import PushState
from tokentide.stored_login import StoredLogin, read_login
from tokentide.terminal import results, write_json

_TIMEOUT_S = 5.0


class Server(msgspec.Struct, kw_only=True):
    """One server: where it is, and whether it answers."""

    url: str | None = None
    reachable: bool = False
    error: str | None = None


class Status(msgspec.Struct, kw_only=True):
    """What there is to tell, as `--json` writes it."""

    logged_in: bool = False
    user: str | None = None
    organization: str | None = None
    role: str | None = None
    machine_id: str
    keys_kept_in: str | None = None
    keys_end_known: bool = False
    keys_end_at: str | None = None
    """When the first of the login's keys ends; None: never, where that is known."""
    query: Server
    ingest: Server
    last_push_at: str | None = None
    pending_files: int = 0
    pending_events: int = 0


def status(
    *,
    as_json: Json = False,
    machine: MachineId = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> int:
    """Show who you are and where, when you last pushed, what waits, and whether the servers answer.

    Ends with 75 when one of them does not.
    """
    folder = state_dir or default_state_dir()
    me = this_machine(folder, machine_id=machine)
    found = Status(machine_id=me.id, query=Server(), ingest=Server())
    login = read_login() if data_dir is None else None
    if login is not None:
        found.logged_in, found.keys_kept_in = True, login.kept_in
        found.user, found.organization = login.email, login.organization
    _ask_query(found, data_dir, login)
    _ask_ingest(found, data_dir, folder, me)
    if as_json:
        write_json(found)
    else:
        _show(found)
    return Exit.OK if found.query.reachable and found.ingest.reachable else Exit.TRY_LATER


def _ask_query(found: Status, data_dir: Path | None, login: StoredLogin | None) -> None:
    connection = _connection("query", found.query, data_dir)
    if connection is None:
        return
    requests = AccountRequests(connection, timeout_s=_TIMEOUT_S)
    try:
        me = requests.get("auth/me")
        found.query.reachable = True
        found.user = me["user"]["email"] if me["user"] else None
        found.organization, found.role = me["organisation"]["name"], me["role"]
        ends = [requests.get(f"keys/{segment(key_id)}")["expires_at"] for key_id in _ids(login, connection)]
        found.keys_end_known, found.keys_end_at = bool(ends), min(filter(None, ends), default=None)
    except Failure as failure:
        # It answers, though it refuses: that is for whoever reads the error.
        found.query.reachable = found.query.reachable or failure.code is not Exit.TRY_LATER
        found.query.error = failure.message


def _ask_ingest(found: Status, data_dir: Path | None, folder: Path, me: Machine) -> None:
    connection = _connection("ingest", found.ingest, data_dir)
    if connection is not None:
        try:
            with open_client(connection, timeout_s=_TIMEOUT_S) as client:
                answer = client.get("/api/v1/cli/health")
            found.ingest.reachable = answer.is_success
            found.ingest.error = None if answer.is_success else f"it answered {answer.status_code}"
        except httpx.TransportError as error:
            found.ingest.error = f"cannot reach {connection.url}: {error or type(error).__name__}"
    state = PushState(marks_file(folder, connection or Connection("", ""), me))
    found.last_push_at = state.pushed_at or None
    collector = Collector(state)
    # Read as a push would read it, and sent nowhere.
    for _ in collector.batches(session_files(log_roots(os.environ, Path.home()))):
        pass
    found.pending_files, found.pending_events = collector.counts.files_read, collector.counts.events


def _connection(service: Service, server: Server, data_dir: Path | None) -> Connection | None:
    try:
        connection = usual_connection(service, os.environ, data_dir)
    except Failure as failure:
        server.error = failure.message
        return None
    server.url = connection.url
    return connection


def _ids(login: StoredLogin | None, connection: Connection) -> list[str]:
    return login.key_ids if login is not None and connection.url == login.server else []


def _show(found: Status) -> None:
    who = f"{found.user or 'a key'} in {found.organization}" if found.organization else "nobody knows"
    role = f" as {found.role}" if found.role else ""
    pending = f"{found.pending_events} calls in {found.pending_files} files"
    rows = (
        ("who", f"{who}{role}"),
        ("login", f"keys in {found.keys_kept_in}" if found.logged_in else "none: keys from elsewhere"),
        ("keys end", moment(found.keys_end_at) or "never" if found.keys_end_known else "unknown"),
        ("machine", found.machine_id),
        ("query API", _said(found.query)),
        ("ingest", _said(found.ingest)),
        ("last push", moment(found.last_push_at) or "never"),
        ("waiting", pending),
    )
    for name, text in rows:
        results().print(f"{name:<10} {text}", markup=False, highlight=False)


def _said(server: Server) -> str:
    answers = "answers" if server.reachable else "does not answer"
    said = f"{server.url} {answers}" if server.url else "unknown"
    return f"{said}: {server.error}" if server.error else said
