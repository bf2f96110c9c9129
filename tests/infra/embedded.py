"""The whole system as a user runs it: the `tokentide` command as processes, the query API as a client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from infra.brokers import tansu_binary
from infra.process import bound_to_us
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database

COMMAND = str(Path(sys.executable).with_name("tokentide"))
BATCHES = "/api/v1/cli/batches"
# All test data is of this month; named periods would depend on the clock of the machine.
PERIOD = {"from": "2026-11-01", "to": "2026-11-30"}
START_S = 90.0
_OTHERS_SETTINGS = ("TOKENTIDE_", "CLAUDE_", "XDG_")


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Return an environment in which nothing of this machine's user is found."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS_SETTINGS)}
    # The binary is unpacked once for all tests, instead of once into each home.
    plain = {"HOME": str(home), "CALF_TANSU_BIN": tansu_binary(), "NO_COLOR": "1", "COLUMNS": "300"}
    return own | plain | settings


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one line of JSON on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)


def client_for(url: str, key: str) -> httpx.Client:
    """Return a client of a service; loading certificates for plain HTTP would cost more than the requests."""
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, verify=False)


class Caller:
    """An organisation's view of the query API, over one period."""

    def __init__(self, url: str, api_key: str) -> None:
        self.client = client_for(url, api_key)

    def ask(self, route: str, **parameters: Any) -> Any:
        """Return the answer of a reading route, which must be a success."""
        answer = self.client.get(f"/api/v1/{route}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def summary(self, **parameters: Any) -> Any:
        return self.ask("usage/summary", **PERIOD, **parameters)

    def by(self, dimension: str, **parameters: Any) -> dict[str, Any]:
        """Return the measures per value of a dimension; nothing is left to `other`."""
        answer = self.ask("usage/breakdown", by=dimension, limit=500, **PERIOD, **parameters)
        assert answer["other"]["groups"] == 0
        return {row["key"][dimension]: row for row in answer["rows"]}

    def items(self, route: str, *, limit: int = 500, **parameters: Any) -> list[Any]:
        """Return every item of a list, page by page."""
        return list(self._pages(route, {**PERIOD, "limit": limit, **parameters}))

    def _pages(self, route: str, parameters: dict[str, Any]) -> Iterator[Any]:
        cursor: dict[str, str] = {}
        while True:
            page = self.ask(route, **parameters, **cursor)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


class Keys(NamedTuple):
    """An organisation with a key for each side."""

    org_id: str
    machine_key: str
    api_key: str
    proxy_key: str


class Embedded:
    """`tokentide up` over a data folder; it can be killed, ended and started again."""

    def __init__(self, folder: Path, **ports: int) -> None:
        self.data_dir = folder / "data"
        self._folder = folder
        chosen = {"ingest": 0, "otlp-grpc": 0, "proxy": 0, "query": 0, "broker": 0} | ports
        flags = [text for name, port in chosen.items() for text in (f"--{name}-port", str(port))]
        self.command = [COMMAND, "up", "--data-dir", str(self.data_dir), "--json", *flags]
        self.ready: dict[str, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._clients: list[httpx.Client] = []

    @property
    def out(self) -> str:
        return (self._folder / "up.out").read_text()

    @property
    def err(self) -> str:
        return (self._folder / "up.err").read_text()

    @property
    def process(self) -> psutil.Process:
        assert self._child is not None
        return psutil.Process(self._child.pid)

    @property
    def credentials(self) -> dict[str, str]:
        return json.loads((self.data_dir / "credentials.json").read_text())

    def spawn(self, **settings: str) -> None:
        """Start it, with these variables in its environment, and return at once."""
        home = self._folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        with (self._folder / "up.out").open("wb") as out, (self._folder / "up.err").open("ab") as err:
            self._child = subprocess.Popen(
                bound_to_us(self.command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(home, **settings),
            )

    def start(self, **settings: str) -> None:
        """Start it, with these variables in its environment, and return once it is ready."""
        self.spawn(**settings)
        try:
            self._await_ready()
        except BaseException:  # also Ctrl-C and the time limit of a test
            self.kill()
            raise
        self.ready = json.loads(self.out)

    def _await_ready(self) -> None:
        assert self._child is not None
        deadline = time.monotonic() + START_S
        while not self.out.endswith("\n"):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not ready: {self.out}{self.err}")
            time.sleep(0.01)

    def start_again(self, **settings: str) -> None:
        """Start it on the same ports, where its clients still look for it."""
        for name in ("ingest", "otlp-grpc", "proxy", "query"):
            port = self.command.index(f"--{name}-port") + 1
            self.command[port] = self.ready[name.replace("-", "_")].rpartition(":")[2]
        deadline = time.monotonic() + START_S
        while True:
            try:
                return self.start(**settings)
            except AssertionError as error:
                # Nobody listens there, but a connection of another test may begin there for a moment.
                if "Address already in use" not in str(error) or time.monotonic() > deadline:
                    raise

    def kill(self) -> None:
        """Let it die at once, in the middle of whatever it does."""
        self._hang_up()
        if self._child is not None:
            self._child.kill()
            self._child.wait(30)

    def kill_after(self, seconds: float) -> None:
        """Kill it after so much time, which it must not spend dying by itself."""
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._child.wait(seconds)
            raise AssertionError(f"ended by itself with {code}: {self.err}")
        self.kill()

    def end(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 60.0) -> int:
        """Ask it to end and return its exit code; fail when it takes longer."""
        assert self._child is not None
        self._hang_up()
        self._child.send_signal(number)
        return self.ended(within_s=within_s)

    def ended(self, *, within_s: float) -> int:
        """Return the exit code once it has ended by itself."""
        assert self._child is not None
        try:
            return self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {within_s} s: {self.err}") from None

    def caller(self, keys: Keys | None = None) -> Caller:
        """Return the query API as the first organisation, or another, sees it."""
        caller = Caller(self.ready["query"], keys.api_key if keys else self.credentials["api_key"])
        self._clients.append(caller.client)
        return caller

    def sender(self, keys: Keys | None = None) -> httpx.Client:
        """Return a client of the ingest service with a machine key."""
        key = keys.machine_key if keys else self.credentials["machine_key"]
        self._clients.append(client_for(self.ready["ingest"], key))
        return self._clients[-1]

    def organization(self) -> Keys:
        """Make one more organisation, whose numbers no other test touches, and return once its keys work."""
        engine = open_database(f"sqlite:///{self.data_dir / 'accounts.db'}")
        try:
            org_id = create_organization(engine, "test")
            machine_key, _ = issue_key(engine, org_id, "m", user_id="dev")
            proxy_key, _ = issue_key(engine, org_id, "p", user_id="dev")
            keys = Keys(org_id, machine_key, issue_key(engine, org_id, "a")[0], proxy_key)
        finally:
            engine.dispose()
        caller, deadline = self.caller(keys), time.monotonic() + 30
        # Services look for new keys a few times a second, and all of them in one table here.
        while caller.client.get("/api/v1/usage/summary").status_code == 401 and time.monotonic() < deadline:
            time.sleep(0.02)
        return keys

    def _hang_up(self) -> None:
        while self._clients:
            self._clients.pop().close()


class Machine:
    """A developer's machine: a home and a state of its own, and the `tokentide` command."""

    def __init__(self, home: Path, system: Embedded, keys: Keys | None = None) -> None:
        self.home = home
        self.state = home / "state"
        self._system = system
        self._settings = {"TOKENTIDE_MACHINE_ID": home.name, "TOKENTIDE_STATE_DIR": str(self.state)}
        if keys is not None:
            self._settings["TOKENTIDE_KEY"] = keys.machine_key
        home.mkdir(parents=True, exist_ok=True)

    def push(self, *logs: Path, flags: tuple[str, ...] = ()) -> Ended:
        """Push what is new in these configuration folders and return how it ended."""
        return finished(self.start_push(*logs, flags=flags))

    def start_push(self, *logs: Path, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a push; `finished` waits for it."""
        settings = self._settings | {"CLAUDE_CONFIG_DIR": ",".join(map(str, logs))}
        return subprocess.Popen(
            bound_to_us([COMMAND, "push", "--json", "--data-dir", str(self._system.data_dir), *flags]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(self.home, **settings),
        )


def finished(command: subprocess.Popen[str], *, within_s: float = 150.0) -> Ended:
    """Return how a command ended."""
    try:
        out, err = command.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        command.kill()
        command.communicate()
        raise
    return Ended(command.returncode, out, err)
