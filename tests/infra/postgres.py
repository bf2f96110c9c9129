"""A PostgreSQL server for tests: the machine's own binaries, else a container, else a skip that says so."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.containers import docker_answers
from infra.process import bound_to_us, free_port
from infra.sqlite import migrated_sqlite
from tokentide_common.database import open_database

_IMAGE = "postgres:17-alpine"
_START_S = 30
MISSING = "NO POSTGRESQL: neither server binaries nor Docker here, so the SQL contract ran on SQLite only"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server, without a database name, for the whole session."""
    binaries = _binaries()
    if binaries is not None:
        with native_server(binaries) as url:
            yield url
    elif docker_answers():
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(_IMAGE, driver=None) as server:
            yield server.get_connection_url().rpartition("/")[0]
    else:
        pytest.skip(MISSING)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/made/on/demand/tokentide.db"
    server = request.getfixturevalue("postgres_server")
    return f"{server}/{_created(server, 'template1')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database of each kind that has its tables, and no rows."""
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "tokentide.db")
    server = request.getfixturevalue("postgres_server")
    return f"{server}/{_created(server, request.getfixturevalue('postgres_template'))}"


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a database that others are copied from, which is cheaper than to migrate each."""
    name = _created(postgres_server, "template1")
    open_database(f"{postgres_server}/{name}").dispose()
    return name


def _created(server: str, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


@contextlib.contextmanager
def native_server(binaries: Path) -> Iterator[str]:
    """Run a server of its own from installed binaries, as another user where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="tokentide-postgres-"))
    account = _unprivileged_account()
    if account:
        shutil.chown(folder, account)
    data = folder / "data"
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "tokentide", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        user=account,
        cwd=folder,
    )
    port = free_port()
    options = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            bound_to_us([str(binaries / "postgres"), "-D", str(data), "-p", str(port), *map(str, settings)]),
            stdout=log,
            stderr=log,
            user=account,
            cwd=folder,
            start_new_session=True,
        )
    url = f"postgresql://tokentide@127.0.0.1:{port}"
    try:
        _await_server(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: sessions left open are closed
        process.wait(timeout=_START_S)
        shutil.rmtree(folder)


def _await_server(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(f"{url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError as exc:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from exc
            time.sleep(0.05)
        else:
            return


def _binaries() -> Path | None:
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


def _unprivileged_account() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
