"""`tokentide up` begins, ends and refuses as it promises."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.embedded import COMMAND, Embedded, Machine, environment, finished
from infra.manifests import RUNS, session_dir, truth_for_log

READY_FIELDS = {"ready", "ingest", "otlp_grpc", "proxy", "query", "broker", "credentials"}
CREDENTIALS = {"organization", "api_key", "machine_key", "proxy_key"}
DRAIN_S = 15.0
ANY_PORTS = ("--ingest-port", "0", "--otlp-grpc-port", "0", "--proxy-port", "0", "--query-port", "0")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refused(*flags: str, home: Path) -> tuple[int, str]:
    """Run an `up` that cannot start; return its exit code and what it says."""
    home.mkdir(exist_ok=True)
    ended = subprocess.run(
        [COMMAND, "up", "--json", *flags],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_ready_is_one_line_of_json_with_the_addresses_and_the_keys(system: Embedded) -> None:
    (line,) = system.out.splitlines()
    ready = json.loads(line)
    assert (ready.keys(), ready["ready"]) == (READY_FIELDS, True)
    assert json.loads((system.data_dir / "addresses.json").read_text()) == ready
    assert ready["broker"].startswith("kafka://127.0.0.1:")
    credentials = Path(ready["credentials"])
    assert credentials == system.data_dir / "credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert system.credentials.keys() == CREDENTIALS
    kinds = [system.credentials[f"{kind}_key"][:5] for kind in ("api", "machine", "proxy")]
    assert kinds == ["tt_a_", "tt_m_", "tt_p_"]
    secret = system.data_dir / "secret.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for side in ("ingest", "proxy", "query"):
        for route in ("healthz", "readyz", "metrics"):
            assert httpx.get(f"{ready[side]}/{route}", verify=False).status_code == 200


def test_links_lead_to_where_the_system_listens(system: Embedded) -> None:
    begun = httpx.post(
        f"{system.ready['query']}/api/v1/auth/device", json={"machine_id": "m"}, trust_env=False
    )
    assert begun.json()["verification_uri"] == f"{system.ready['query']}/device"


def test_a_second_system_in_a_used_data_folder_is_refused(system: Embedded, tmp_path: Path) -> None:
    flags = ("--data-dir", str(system.data_dir), *ANY_PORTS)
    code, said = refused(*flags, home=tmp_path / "home")
    assert code == 1
    assert f"a system is running already in {system.data_dir}" in said
    assert "--data-dir" in said
    assert httpx.get(f"{system.ready['query']}/readyz", verify=False).status_code == 200
    assert (system.data_dir / "addresses.json").exists()


@pytest.mark.parametrize("name", ["ingest", "otlp-grpc", "proxy", "query", "broker"])
def test_a_taken_port_is_refused_by_the_name_of_its_flag(name: str, taken_port: int, tmp_path: Path) -> None:
    ports = {"ingest": 0, "otlp-grpc": 0, "proxy": 0, "query": 0, "broker": 0} | {name: taken_port}
    flags = [text for one, port in ports.items() for text in (f"--{one}-port", str(port))]
    code, said = refused("--data-dir", str(tmp_path / "data"), *flags, home=tmp_path / "home")
    assert code == 1
    assert f"--{name}-port" in said
    assert str(taken_port) in said
    assert "Traceback" not in said


def test_a_data_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    flags = ("--data-dir", str(tmp_path / "file"), *ANY_PORTS)
    code, said = refused(*flags, home=tmp_path / "home")
    assert (code, "Traceback" in said) == (1, False)
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_in_good_order(
    number: signal.Signals, own_system: Embedded
) -> None:
    own_system.spawn()
    deadline = time.monotonic() + 60
    # The broker is the first part to run, long before the system is ready.
    while not own_system.process.children() and time.monotonic() < deadline:
        time.sleep(0.005)
    (broker,) = own_system.process.children()
    assert own_system.end(number, within_s=DRAIN_S) == 0
    assert not broker.is_running()
    assert own_system.out == ""
    assert "Traceback" not in own_system.err


def test_what_was_acknowledged_outlives_a_restart_and_the_end_leaves_nothing_behind(
    own_system: Embedded, tmp_path: Path
) -> None:
    laptop = Machine(tmp_path / "laptop", own_system)
    total = sum(totals.calls for run in RUNS for totals in truth_for_log(run).values())
    own_system.start()
    credentials = own_system.credentials
    assert laptop.push(session_dir(RUNS[0])).code == 0
    first = own_system.caller().summary()

    # The end comes while another push is under way: it is either taken or sent again later.
    pushing = laptop.start_push(*map(session_dir, RUNS), flags=("--give-up-after", "0"))
    children = own_system.process.children(recursive=True)
    assert len(children) == 1
    assert own_system.end(signal.SIGTERM, within_s=DRAIN_S) == 0
    assert finished(pushing).code in (0, 2, 75)
    assert [child for child in children if child.is_running()] == []
    assert not (own_system.data_dir / "addresses.json").exists()
    assert own_system.err == ""

    own_system.start()
    assert own_system.credentials == credentials
    assert own_system.caller().summary()["calls"] >= first["calls"]
    assert laptop.push(*map(session_dir, RUNS)).code == 0
    assert own_system.caller().summary()["calls"] == total
    assert own_system.end(signal.SIGINT, within_s=DRAIN_S) == 0


def test_a_broker_that_dies_ends_the_system_with_a_word_and_an_error(own_system: Embedded) -> None:
    own_system.start()
    (broker,) = own_system.process.children()
    broker.kill()
    assert own_system.ended(within_s=DRAIN_S) == 1
    assert "a part of the system ended by itself" in own_system.err
    assert "Traceback" not in own_system.err
    assert not (own_system.data_dir / "addresses.json").exists()
