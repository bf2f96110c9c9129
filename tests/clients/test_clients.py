"""Real clients deliver to a running system, and the numbers are right."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from clients.conftest import INSTALLED
from infra.embedded import Caller, Embedded, Keys, Machine
from infra.fake_answers import Answer
from infra.fake_provider import FakeProvider
from infra.waiting import until

PROTOCOLS = ("http/json", "http/protobuf", "grpc")


def exporting(system: Embedded, keys: Keys, protocol: str) -> dict[str, str]:
    """The variables that point any exporter at the system."""
    grpc = f"http://{system.ready['otlp_grpc'].removeprefix('http://')}"
    return {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": grpc if protocol == "grpc" else system.ready["ingest"],
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {keys.machine_key}",
    }


def run(arguments: list[str], cwd: Path, settings: dict[str, str]) -> str:
    plain = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env=plain | {"HOME": str(cwd)} | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def listed(caller: Caller) -> dict[str, dict[str, Any]]:
    answer = caller.ask("calls", **{"from": "2026-01-01", "to": "2030-01-01"}, limit=500)
    return {call["call_id"]: call for call in answer["items"]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_javascript_sdk_delivers_calls_activity_and_spans(
    protocol: str, system: Embedded, keys: Keys
) -> None:
    name = uuid.uuid4().hex
    run(
        ["node", "export.mjs"],
        INSTALLED.parent,
        {**exporting(system, keys, protocol), "CALL_ID": name},
    )
    caller = system.caller(keys)
    calls = await until(lambda: len(found := listed(caller)) == 2 and found)
    logged, spanned = calls[f"req_log_{name}"], calls[f"resp_{name}"]
    assert (logged["input_tokens"], logged["output_tokens"], logged["cache_read_tokens"]) == (10, 20, 30)
    assert (spanned["input_tokens"], spanned["output_tokens"], spanned["provider"]) == (100, 7, "openai")
    assert spanned["duration_ms"] == 1000


def claude_code(home: Path, **settings: str) -> None:
    """Run Claude Code, headless, with a tool that it calls."""
    plain = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ANTHROPIC_API_KEY": "sk-ant-CANARY-of-the-key",
    }
    prompt = f"Say hello. [[call Bash]] CANARY-of-the-prompt {home}"
    arguments = [str(INSTALLED / ".bin/claude"), "-p", prompt, "--model", "sonnet"]
    run([*arguments, "--allowedTools", "Bash"], home, plain | settings)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def telemetry(system: Embedded, keys: Keys, protocol: str) -> dict[str, str]:
    return {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        **exporting(system, keys, protocol),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_claude_code_itself_is_counted_once_by_log_and_telemetry(
    protocol: str, system: Embedded, keys: Keys, home: Path, tmp_path: Path
) -> None:
    with FakeProvider() as upstream:
        settings = {"ANTHROPIC_BASE_URL": upstream.url, **telemetry(system, keys, protocol)}
        claude_code(home, **settings)
    account = {answer.call_id: answer for answer in upstream.account}
    caller = system.caller(keys)
    await until(lambda: listed(caller).keys() == account.keys())
    pushed = Machine(tmp_path / "machine", system, keys).push(home / ".claude")
    assert (pushed.code, pushed.err) == (0, "")
    assert_exact(listed(caller), account)
    assert any(call["sources"] == ["cli", "otlp"] for call in listed(caller).values())
    assert_no_canaries(system)


async def test_claude_code_through_the_proxy_is_counted_once_by_all_three_sources(
    system: Embedded, provider: FakeProvider, keys: Keys, home: Path, tmp_path: Path
) -> None:
    before = len(provider.account)
    claude_code(
        home,
        ANTHROPIC_BASE_URL=system.ready["proxy"],
        ANTHROPIC_CUSTOM_HEADERS=f"x-tokentide-key: {keys.proxy_key}\nx-tokentide-project: tried",
        **telemetry(system, keys, "http/protobuf"),
    )
    account = {answer.call_id: answer for answer in provider.account[before:]}
    assert len(account) >= 2, "a call of a tool, and what follows"
    # What the provider was sent is what Claude Code sent: its own key, and nothing of ours.
    for asked in provider.asked:
        assert asked.headers.get("x-api-key", "sk-ant-CANARY-of-the-key") == "sk-ant-CANARY-of-the-key"
        assert [name for name in asked.headers if name.startswith("x-tokentide")] == []
    caller = system.caller(keys)
    seen = await until(lambda: all_seen_by("proxy", listed(caller), account))
    assert {call["project"] for call in seen.values()} == {"tried"}
    assert {call["client"] for call in seen.values()} == {"claude-code"}
    assert all(call["session_id"] for call in seen.values())
    pushed = Machine(tmp_path / "machine", system, keys).push(home / ".claude")
    assert (pushed.code, pushed.err) == (0, "")
    await until(lambda: all_seen_by("otlp", listed(caller), account))
    assert_exact(listed(caller), account)
    assert any(call["sources"] == ["cli", "otlp", "proxy"] for call in listed(caller).values())
    assert_no_canaries(system)


def all_seen_by(
    source: str, calls: dict[str, dict[str, Any]], account: dict[str, Answer]
) -> dict[str, dict[str, Any]] | None:
    complete = calls.keys() == account.keys() and all(source in call["sources"] for call in calls.values())
    return calls if complete else None


def assert_exact(calls: dict[str, dict[str, Any]], account: dict[str, Answer]) -> None:
    assert calls.keys() == account.keys()
    for call_id, answer in account.items():
        assert calls[call_id]["model"] == answer.model
        assert {name: calls[call_id][name] for name in answer.buckets} == answer.buckets


def assert_no_canaries(system: Embedded) -> None:
    kept = b"".join(path.read_bytes() for path in system.data_dir.rglob("*") if path.is_file())
    assert b"CANARY" not in kept
