"""`compose.yaml` and the `Dockerfile`: valid, pinned, healthy, least-privileged, and true to the code."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tokentide_common.setting_names import KNOWN
from tokentide_common.settings import ConsumerSettings, SharedSettings, load
from tokentide_common.topics import TOPICS
from tokentide_proxy.settings import ProxySettings

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = Path(sysconfig.get_path("scripts"))
SERVICES = {"ingest", "proxy", "aggregator", "ranker", "query-api"}
PORTS = {"ingest": 4318, "proxy": 8080, "aggregator": 8081, "ranker": 8081, "query-api": 8000}


def compose(*arguments: str) -> str:
    done = subprocess.run(
        [SCRIPTS / "docker-compose", "--profile", "*", "--file", ROOT / "compose.yaml", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def composed() -> dict[str, Any]:
    """The file as Compose understands it: anchors merged, variables filled in."""
    return json.loads(compose("config", "--format", "json"))


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8")


def stage(name: str) -> str:
    found = re.search(rf"^FROM \S+ AS {re.escape(name)}\n(.*?)(?=^FROM |\Z)", dockerfile(), re.S | re.M)
    assert found, f"the Dockerfile has no stage {name}"
    return found[1]


def images() -> set[str]:
    from_dockerfile = re.findall(r"^FROM (\S+)", dockerfile(), re.M)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile(), re.M))
    return {
        *(service["image"] for service in composed()["services"].values()),
        *(image for image in from_dockerfile if image not in stages and image != "${SERVICE}"),
    }


def test_compose_accepts_the_file() -> None:
    compose("config", "--quiet")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run(
        [SCRIPTS / "hadolint", "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_five_services_and_what_they_need_are_there() -> None:
    assert set(composed()["services"]) == SERVICES | {"redpanda", "topics", "clickhouse", "postgres"}


def test_every_image_is_pinned_to_a_full_version() -> None:
    assert [image for image in images() if not re.search(r":v?\d+\.\d+[\w.-]*$", image)] == []


def test_every_part_that_stays_up_is_watched_and_comes_back() -> None:
    staying = {name: part for name, part in composed()["services"].items() if name != "topics"}
    assert [name for name, part in staying.items() if "test" not in part.get("healthcheck", {})] == []
    assert [name for name, part in staying.items() if part.get("restart") != "unless-stopped"] == []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_ready_when_its_own_route_says_so(name: str) -> None:
    probe = composed()["services"][name]["healthcheck"]["test"]
    assert probe[:3] == ["CMD", "python", "-c"], "the image has Python and no curl"
    assert f"http://127.0.0.1:{PORTS[name]}/readyz" in probe[3]
    compile(probe[3], name, "exec")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_topics_store_and_accounts(name: str) -> None:
    needs = {part: need["condition"] for part, need in composed()["services"][name]["depends_on"].items()}
    assert needs == {
        "topics": "service_completed_successfully",
        "clickhouse": "service_healthy",
        "postgres": "service_healthy",
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_the_least_rights(name: str) -> None:
    part = composed()["services"][name]
    assert part["read_only"] is True
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in part


def test_what_must_survive_is_on_named_volumes() -> None:
    config = composed()
    mounted = {
        name: [(v["type"], v["source"]) for v in part.get("volumes", []) if v["type"] == "volume"]
        for name, part in config["services"].items()
    }
    assert {name: found for name, found in mounted.items() if found} == {
        "redpanda": [("volume", "broker")],
        "clickhouse": [("volume", "calls")],
        "postgres": [("volume", "accounts")],
        "ingest": [("volume", "telemetry")],
        "proxy": [("volume", "proxied")],
    }
    assert set(config["volumes"]) == {"broker", "calls", "accounts", "telemetry", "proxied"}


def test_the_store_is_started_by_what_makes_its_inserts_sure() -> None:
    store = composed()["services"]["clickhouse"]
    (script,) = [volume for volume in store["volumes"] if volume["type"] == "bind"]
    assert Path(script["source"]) == Path(str(files("tokentide_common") / "forget_lost_tokens.sh"))
    assert script["read_only"] is True
    data = [volume["target"] for volume in store["volumes"] if volume["type"] == "volume"]
    assert store["entrypoint"] == ["/bin/sh", script["target"], *data, "/entrypoint.sh"]


def test_ports_are_published_to_this_machine_only() -> None:
    published = [
        port["host_ip"] for part in composed()["services"].values() for port in part.get("ports", [])
    ]
    assert set(published) == {"127.0.0.1"}


def test_passwords_can_be_replaced_from_outside() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    secrets = re.findall(r"(?:PASSWORD|SECRET_KEY): (\S+)", text) + re.findall(r"//tokentide:([^@]+)@", text)
    assert len(secrets) == 5
    assert [secret for secret in secrets if not re.fullmatch(r"\$\{[A-Z_]+:-\w*\}", secret)] == []


def test_every_part_is_started_without_being_asked_for() -> None:
    assert {name for name, part in composed()["services"].items() if part.get("profiles")} == set()


def test_what_waits_on_disk_is_on_the_volume() -> None:
    for name, variable in (("ingest", "OTLP_FORWARD_QUEUE_DIR"), ("proxy", "PROXY_SPOOL_DIR")):
        (volume,) = composed()["services"][name]["volumes"]
        folder = composed()["services"][name]["environment"][f"TOKENTIDE_{variable}"]
        assert folder.startswith(f"{volume['target']}/")
        assert f"--mode=0700 {volume['target']}" in stage("runtime"), "an image has it for its user"


def test_live_streams_are_given_the_time_to_end() -> None:
    assert composed()["services"]["proxy"]["stop_grace_period"] == "5m20s"
    assert ProxySettings().proxy_drain_s + 5 < 320


def test_topics_are_created_as_the_code_means_them() -> None:
    script = composed()["services"]["topics"]["command"][0]
    created = {
        name: (int(partitions), int(retention_ms))
        for name, partitions, retention_ms in re.findall(r"^create (\S+) +(\d+) +(\d+)$", script, re.M)
    }
    assert created == {topic.name: (topic.partitions, topic.retention_ms) for topic in TOPICS}
    assert "message.timestamp.type=LogAppendTime" in script, "old calls that arrive today are kept"
    assert "--if-not-exists" in script, "a second start leaves the topics as they are"


def test_the_broker_syncs_to_disk_and_invents_no_topic() -> None:
    command = composed()["services"]["redpanda"]["command"]
    assert not any("dev-container" in word for word in command), "that mode skips fsync"
    assert "redpanda.auto_create_topics_enabled=false" in command


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_understands_every_setting_that_it_is_given(name: str) -> None:
    environment = composed()["services"][name]["environment"]
    assert set(environment) <= KNOWN
    struct = ConsumerSettings if name in {"aggregator", "ranker"} else SharedSettings
    understood = msgspec.structs.asdict(load(struct, environment))
    assert understood["bind_host"] == "0.0.0.0"
    assert understood["broker_url"] == "kafka://redpanda:9092"
    assert understood["embedded"] is False


def test_one_dockerfile_builds_each_service_and_runs_its_module() -> None:
    for name in SERVICES:
        text = stage(name)
        module = f"tokentide_{name.replace('-', '_')}"
        assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0]) == ["python", "-m", module]
        assert (
            f"http://127.0.0.1:{PORTS[name]}/healthz"
            in re.findall(r"HEALTHCHECK(.*?)\nENTRYPOINT", text, re.S)[0]
        )
        assert f"EXPOSE {PORTS[name]}\n" in text
        assert composed()["services"][name]["build"]["args"] == {"SERVICE": name}
    assert dockerfile().rstrip().endswith("FROM ${SERVICE}")


def test_an_image_runs_as_nobody_and_has_no_build_tools() -> None:
    runtime = stage("runtime")
    assert re.findall(r"^USER (\S+)$", dockerfile(), re.M) == ["10001:10001"]
    assert runtime.count("COPY ") == 1
    assert "COPY --from=build /app /app" in runtime
    assert "uninstall --yes --quiet pip" in runtime
    assert not re.search(r"apt-get|pip install|\buv\b", runtime)
    assert "uv sync --locked --no-dev --no-editable" in stage("build")


def test_image_and_makefile_install_the_same_uv() -> None:
    in_image = re.findall(r"uv==([\d.]+)", dockerfile())
    in_makefile = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert in_image == in_makefile


def test_the_build_context_holds_only_what_the_dockerfile_copies() -> None:
    ignored = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored[0] == "*"
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(), re.M)
        for word in line.split()[:-1]
    }
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_hooks_before_a_commit_are_the_checks_of_make() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    entries = {hook["entry"] for repo in config["repos"] for hook in repo["hooks"]}
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("$(BIN)", ".venv/bin")
    assert {" ".join(entry.split()[:2]) for entry in entries} == {
        ".venv/bin/ruff check",
        ".venv/bin/ruff format",
        ".venv/bin/mypy",
    }
    assert all(" ".join(entry.split()[:2]) in makefile for entry in entries)
