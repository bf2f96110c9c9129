"""`tokentide doctor`: each mistake is named with what to do, and keys never are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.query_stub import QueryStub
from tokentide.client_findings import client_findings
from tokentide.failures import Exit
from tokentide.server_findings import skew

from .conftest import Run

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
DATE = "Sun, 22 Nov 2026 10:30:00 GMT"
GOOD = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:Canary-pw@127.0.0.1:4318",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:8080",
}


def states(environ: dict[str, str], home: Path) -> dict[str, str]:
    return {finding.check: finding.state for finding in client_findings(environ, home)}


def test_a_machine_that_is_set_up_well_is_ok_and_no_password_is_told(tmp_path: Path) -> None:
    log = tmp_path / ".claude/projects/p/s.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("{}\n")
    assert set(states(GOOD, tmp_path).values()) == {"ok"}
    assert "Canary" not in repr(client_findings(GOOD, tmp_path))


def test_claude_codes_own_settings_count_too(tmp_path: Path) -> None:
    settings = tmp_path / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"env": {**GOOD, "ANTHROPIC_API_KEY": "Canary-key"}, "model": "opus"}))
    found = client_findings({}, tmp_path)
    assert {f.check: f.state for f in found}["telemetry"] == "ok"
    assert "Canary" not in repr(found)


@pytest.mark.parametrize(
    ("change", "check", "state"),
    [
        ({"TOKENTIDE_INGST_URL": "x"}, "settings", "warning"),
        ({"CLAUDE_CODE_ENABLE_TELEMETRY": ""}, "telemetry", "note"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "telemetry", "warning"),
        ({"OTEL_LOGS_EXPORTER": "console"}, "telemetry", "warning"),
        ({"ANTHROPIC_BASE_URL": ""}, "proxy", "note"),
        ({"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}, "proxy", "note"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:8080/v1"}, "proxy", "warning"),
        ({}, "logs", "warning"),
    ],
)
def test_each_mistake_is_told(tmp_path: Path, change: dict[str, str], check: str, state: str) -> None:
    assert states({**GOOD, **change}, tmp_path)[check] == state


@pytest.mark.parametrize(
    ("apart", "state"), [(0, "ok"), (4, "ok"), (-60, "warning"), (60, "warning"), (3600, "failed")]
)
def test_a_clock_is_held_against_the_servers(apart: int, state: str) -> None:
    assert skew(DATE, NOW + timedelta(seconds=apart), "query").state == state


@pytest.mark.parametrize("date", ["", "now", "2026"])
def test_a_server_may_not_tell_the_time(date: str) -> None:
    assert skew(date, NOW, "query").state == "note"


def findings(ended: Any) -> dict[str, str]:
    return {one["check"]: one["state"] for one in json.loads(ended.out)["findings"]}


def test_servers_keys_and_last_events_are_asked_for(
    query_stub: QueryStub, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"items": [{"occurred_at": datetime.now(UTC).isoformat()}], "next_cursor": None}
    query_stub.answers = {"reports": {"items": []}, "calls": seen}
    monkeypatch.setenv("TOKENTIDE_INGEST_URL", "http://127.0.0.1:1")
    ended = tokentide("doctor", "--json")
    told = findings(ended)
    assert (ended.code, told["ingest"], told["query"]) == (Exit.FAILED, "failed", "ok")
    assert told["last by proxy"] == "ok"
    assert [asked["source"] for name, asked in query_stub.asked if name == "calls"] == [
        ["cli"],
        ["otlp"],
        ["proxy"],
        ["api"],
    ]
    query_stub.problem = (401, {"detail": "unknown key", "code": "unauthorized"})
    plain = tokentide("doctor")
    assert "unknown key" in plain.out
    assert "check TOKENTIDE_KEY" in plain.out
