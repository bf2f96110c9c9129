"""Real clients deliver to a running system, and the numbers are right."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from clients.conftest import INSTALLED
from clients.upstream import Answered, Upstream
from infra.embedded import Caller, Embedded, Keys, Machine
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


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_claude_code_itself_is_counted_once_by_log_and_telemetry(
    protocol: str, system: Embedded, keys: Keys, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with Upstream() as upstream:
        settings = {
            "ANTHROPIC_BASE_URL": upstream.url,
            "ANTHROPIC_API_KEY": "sk-ant-test-000",
            "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            **exporting(system, keys, protocol),
        }
        prompt = "Say hello. [[bash]] CANARY-of-the-prompt"
        arguments = [str(INSTALLED / ".bin/claude"), "-p", prompt, "--model", "sonnet"]
        run([*arguments, "--allowedTools", "Bash"], home, settings)
    account = {answered.request_id: answered for answered in upstream.account}
    caller = system.caller(keys)
    await until(lambda: listed(caller).keys() == account.keys())
    pushed = Machine(tmp_path / "machine", system, keys).push(home / ".claude")
    assert (pushed.code, pushed.err) == (0, "")
    calls = listed(caller)
    assert calls.keys() == account.keys()
    for call_id, answered in account.items():
        assert_exact(calls[call_id], answered)
    assert any(call["sources"] == ["cli", "otlp"] for call in calls.values())
    assert b"CANARY" not in b"".join(
        path.read_bytes() for path in system.data_dir.rglob("*") if path.is_file()
    )


def assert_exact(call: dict[str, Any], answered: Answered) -> None:
    used = answered.usage
    assert call["model"] == answered.model
    assert call["input_tokens"] == used["input_tokens"]
    assert call["cache_read_tokens"] == used["cache_read_input_tokens"]
    assert call["cache_write_5m_tokens"] == used["cache_creation"]["ephemeral_5m_input_tokens"]
    assert call["cache_write_1h_tokens"] == used["cache_creation"]["ephemeral_1h_input_tokens"]
    assert call["output_tokens"] == used["output_tokens"]
