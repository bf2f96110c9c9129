"""Login, status, keys, machines and logout of the command line, against the real query API over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from keyring.backends import fail

from infra.accounts_people import SECRET, People, Person
from infra.ingest_stub import KEY as INGEST_KEY
from infra.ingest_stub import IngestStub
from infra.keyrings import keyring_in_use
from infra.sqlite import migrated_sqlite
from tokentide.__main__ import main
from tokentide.failures import Failure
from tokentide.login import keep_or_revoke
from tokentide.stored_login import Keys, StoredLogin
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.accounts_schema import api_keys
from tokentide_common.database import Engine, open_database, reading
from tokentide_common.serving import serving
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings

_USER_CODE = re.compile(r"enter\s+(\S+)")
LOGIN: dict[str, Any] = {
    "server": "http://127.0.0.1:9",
    "organization_id": "org_a",
    "organization": "Org A",
    "user_id": "usr_1",
    "email": "ada@example.com",
    "machine_id": "m",
    "logged_in_at": "2026-11-22T10:00:00+00:00",
    "key_ids": ["key_1", "key_2"],
}


class Installation:
    """A query API in a thread, and somebody with a session there."""

    def __init__(self, engine: Engine, url: str, ingest: IngestStub, ada: Person, key: str) -> None:
        self.engine = engine
        self.url = url
        self.ingest = ingest
        self.ada = ada
        self.key = key
        """An API key of the organisation itself."""

    def approve(self, user_code: str) -> None:
        self._posted("auth/device/decision", {"user_code": user_code, "approve": True})

    def issued(self, kind: str) -> tuple[str, str]:
        made = self._posted("keys", {"kind": kind, "name": "made"})
        return made["key"], made["key_id"]

    def _posted(self, path: str, body: dict[str, Any]) -> Any:
        bearer = {"authorization": f"Bearer {self.ada.token}"}
        answer = httpx.post(f"{self.url}/api/v1/{path}", json=body, headers=bearer, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()

    def live_keys(self) -> set[str]:
        live = sa.select(api_keys.c.key_id).where(api_keys.c.revoked_at.is_(None))
        with reading(self.engine) as connection:
            return {key_id for (key_id,) in connection.execute(live)}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    engine = open_database(migrated_sqlite(tmp_path_factory.mktemp("accounts") / "accounts.db"))
    create_organization(engine, "Org A", org_id="org_a")
    ada = People(engine).join("org_a", "admin", name="ada")
    key, _ = issue_key(engine, "org_a", "a")
    settings = QuerySettings(secret_key=SECRET, rate_auth_per_minute=100_000)
    started, stop, ports = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(create_app(settings, engine=engine), host="127.0.0.1", port=0) as port:
            ports.append(port)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(30)
    with IngestStub() as ingest:
        yield Installation(engine, f"http://127.0.0.1:{ports[0]}", ingest, ada, key)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
    engine.dispose()


class Terminal:
    """The command line as its user has it, with a home of its own: in this process, or in one of its own."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        for name in os.environ:
            if name.startswith(("TOKENTIDE_", "XDG_", "CLAUDE_")):
                monkeypatch.delenv(name)
        self.set(HOME=str(home), COLUMNS="200", NO_COLOR="1")
        self.set(PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring")
        self.processes: list[subprocess.Popen[str]] = []
        self.login_file = home / ".config" / "tokentide" / "login.json"

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def start(self, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tokentide", *args]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            with process:  # closes its pipes, and waits
                process.kill()

    def run(self, *args: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["tokentide", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def json(self, *args: str, code: int = 0) -> Any:
        ended, out, err = self.run(*args, "--json")
        assert ended == code, (out, err)
        # The services run in this process too, and log to the same stream.
        (answer,) = (line for line in out.splitlines() if line[:1] in ("{", "["))
        return json.loads(answer)


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    with keyring_in_use(fail.Keyring()):
        opened = Terminal(tmp_path, monkeypatch, capfd)
        yield opened
        opened.stop()


def shown_code(process: subprocess.Popen[str]) -> str:
    """Return the code that a login shows."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := _USER_CODE.search(line):
            return found[1]
    raise AssertionError("no code was shown")


def log_in(installation: Installation, terminal: Terminal) -> dict[str, Any]:
    flags = ("--url", installation.url, "--ingest-url", installation.ingest.url, "--json")
    process = terminal.start("login", *flags)
    installation.approve(shown_code(process))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def test_a_machine_is_logged_in_used_and_logged_out(installation: Installation, terminal: Terminal) -> None:
    log_in(installation, terminal)
    kept = terminal.login_file.read_text()
    machine_key, api_key = json.loads(kept)["key_ids"]
    assert terminal.run("keys", "revoke", api_key)[0] == 0
    unable = terminal.json("logout")
    assert (unable["revoked"], "401" in unable["error"]) == ([], True)
    assert machine_key in installation.live_keys()

    terminal.login_file.write_text(kept)
    told = log_in(installation, terminal)
    assert machine_key not in installation.live_keys(), "the login before left a key"
    assert told["user"]["email"] == installation.ada.email
    assert told["organization"] == {"id": "org_a", "name": "Org A"}
    assert (told["kept_in"], told["ingest"]) == (str(terminal.login_file), installation.ingest.url)
    assert stat.S_IMODE(terminal.login_file.stat().st_mode) == 0o600

    status = terminal.json("status")
    assert (status["logged_in"], status["role"], status["machine_id"]) == (True, "member", told["machine_id"])
    assert (status["query"]["reachable"], status["ingest"]["reachable"]) == (True, True)
    assert (status["last_push_at"], status["pending_events"]) == (None, 0)
    assert (status["keys_end_known"], status["keys_end_at"] is None) == (True, False)

    (machine,) = terminal.json("machines", "list")
    assert (machine["machine_id"], machine["user_id"]) == (told["machine_id"], installation.ada.user_id)
    other = terminal.start("login", "--url", installation.url)
    refused = terminal.json("machines", "approve", shown_code(other), "--deny")
    assert (refused["approved"], refused["machine_id"]) == (False, told["machine_id"])
    other.kill()  # it would learn it at its next question

    assert terminal.json("machines", "rename", machine["machine_id"], "desk")["name"] == "desk"

    made = terminal.json("keys", "create", "--kind", "proxy", "--name", "editor", "--expires-in-days", "30")
    assert made["key"].startswith("tt_p_")
    listed = terminal.json("keys", "list")
    assert {item["kind"] for item in listed} == {"m", "a", "p"}
    assert made["key"] not in json.dumps(listed)
    shown = terminal.run("keys", "list")
    assert (shown[0], made["key_id"] in shown[1], "proxy" in shown[1]) == (0, True, True)
    assert terminal.json("keys", "revoke", made["key_id"]) == {"revoked": made["key_id"]}
    assert made["key_id"] in {item["key_id"] for item in terminal.json("keys", "list", "--all")}

    ours = {item["key_id"] for item in terminal.json("keys", "list")}
    out = terminal.json("logout")
    assert (set(out["revoked"]), out["error"]) == (ours, None)
    assert not terminal.login_file.exists()
    assert not ours & installation.live_keys()
    assert terminal.json("status", code=75)["logged_in"] is False


def test_what_waits_is_counted_without_being_sent_and_a_push_is_remembered(
    installation: Installation, terminal: Terminal, tmp_path: Path
) -> None:
    logs = tmp_path / ".claude" / "projects" / "-srv-tide" / "s.jsonl"
    logs.parent.mkdir(parents=True)
    message = {"id": "msg_1", "model": "claude-opus-5-5", "usage": {"input_tokens": 1, "output_tokens": 1}}
    line = {"type": "assistant", "timestamp": "2026-11-22T01:10:12Z", "sessionId": "s", "requestId": "req_1"}
    logs.write_text(json.dumps({**line, "message": message}) + "\n")
    terminal.set(TOKENTIDE_INGEST_URL=installation.ingest.url, TOKENTIDE_QUERY_URL=installation.url)

    terminal.set(TOKENTIDE_KEY=INGEST_KEY)
    before = terminal.json("status", code=75)
    assert (before["pending_files"], before["pending_events"], before["last_push_at"]) == (1, 1, None)
    assert installation.ingest.calls == {}
    assert before["query"]["error"].startswith("no key for")
    assert terminal.run("push")[0] == 0
    after = terminal.json("status", code=75)
    assert (after["pending_files"], after["pending_events"]) == (0, 0)
    assert after["last_push_at"]

    terminal.set(TOKENTIDE_KEY=installation.key)
    asking = terminal.json("status")
    assert asking["keys_end_known"] is False
    assert (asking["logged_in"], asking["organization"], asking["user"]) == (False, "Org A", None)


def test_a_login_is_broken_off_without_a_trace(installation: Installation, terminal: Terminal) -> None:
    process = terminal.start("login", "--url", installation.url)
    shown_code(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "broken off" in err, "Traceback" in err) == (130, True, False)
    assert not terminal.login_file.exists()


def test_a_logout_without_the_server_forgets_and_says_which_keys_still_work(terminal: Terminal) -> None:
    login = {**LOGIN, "keys": {"machine_key": "tt_m_secret", "api_key": "tt_a_secret"}}
    terminal.login_file.parent.mkdir(parents=True)
    terminal.login_file.write_text(json.dumps(login))
    code, out, err = terminal.run("logout")
    assert (code, terminal.login_file.exists()) == (0, False)
    assert "key_1, key_2" in err
    assert "secret" not in out + err
    assert terminal.run("logout")[0] == 0


def test_keys_that_cannot_be_kept_are_revoked(installation: Installation, terminal: Terminal) -> None:
    (machine_key, machine), (api_key, api) = installation.issued("m"), installation.issued("a")
    login = StoredLogin(**{**LOGIN, "server": installation.url, "key_ids": [machine, api]})
    terminal.login_file.parent.parent.mkdir()
    terminal.login_file.parent.write_text("no folder")
    with pytest.raises(Failure, match="cannot be kept") as caught:
        keep_or_revoke(login, Keys(machine_key, api_key), in_file=True)
    assert "are revoked" in caught.value.hint
    assert not {machine, api} & installation.live_keys()


def test_a_refused_change_is_said_in_the_servers_words(
    installation: Installation, terminal: Terminal
) -> None:
    terminal.set(TOKENTIDE_QUERY_URL=installation.url, TOKENTIDE_KEY=installation.key)
    code, _, err = terminal.run("keys", "revoke", "key_of_somebody_else")
    assert (code, "not_found" in err) == (1, True)
    assert terminal.run("keys", "create", "--kind", "nonsense", "--name", "x")[0] == 2
