"""Nothing of a conversation leaves the machine: captured logs carry canaries in place of content."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from infra.ingest_stub import KEY, IngestStub
from infra.manifests import RUNS, session_dir, truth_for_log
from tokentide_common.events import UsageEvent
from tokentide_common.session_totals import SessionTotals

from .conftest import Run

EVERYTHING = ",".join(str(session_dir(run)) for run in RUNS)
FIELDS = {field.name for field in msgspec.structs.fields(UsageEvent)}
OF_TOTALS = {field.name for field in msgspec.structs.fields(SessionTotals)}


@pytest.fixture(autouse=True)
def _all_logs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", EVERYTHING)


def test_the_logs_do_carry_canaries_where_content_was() -> None:
    for run in RUNS:
        text = "".join(path.read_text() for path in session_dir(run).rglob("*.jsonl"))
        assert "CANARY-user-content" in text
        if '"type":"assistant"' in text:
            assert "CANARY-assistant-content" in text


def test_a_dry_run_shows_events_and_totals_without_any_content(tokentide: Run) -> None:
    shown = tokentide("push", "--dry-run")
    assert shown.code == 0
    lines = [json.loads(line) for line in shown.out.splitlines()]
    totals = [line for line in lines if "models" in line]
    events = [line for line in lines if "models" not in line]
    assert totals
    assert all(set(one) <= OF_TOTALS for one in totals)
    assert len(events) == sum(t.calls for run in RUNS for t in truth_for_log(run).values())
    assert all(set(event) <= FIELDS for event in events)
    assert "CANARY" not in shown.out + shown.err
    assert "/home/dev" not in shown.out + shown.err


def test_a_dry_run_sends_and_remembers_nothing(tokentide: Run, home: Path) -> None:
    with IngestStub() as stub:
        tokentide("push", "--dry-run", "--url", stub.url, "--key", KEY)
        assert stub.headers == []
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_what_is_sent_is_exactly_what_a_dry_run_shows(tokentide: Run) -> None:
    with IngestStub() as stub:
        target = ("--url", stub.url, "--key", KEY)
        shown = tokentide("push", "--dry-run", *target)
        tokentide("push", *target)
        (body,) = stub.bodies
    sent = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    events = msgspec.json.decode(sent["events"], type=list[msgspec.Raw])
    totals = msgspec.json.decode(sent["totals"], type=list[msgspec.Raw])
    assert set(sent) == {"machine", "events", "totals"}
    assert [bytes(one).decode() for one in (*events, *totals)] == shown.out.splitlines()
    assert set(stub.machines[0]) == {"id", "name"}
    assert b"CANARY" not in body
    assert b"/home/dev" not in body
    assert not any("CANARY" in value for headers in stub.headers for value in headers.values())


def test_the_state_remembers_no_content(tokentide: Run, home: Path) -> None:
    with IngestStub() as stub:
        tokentide("push", "--url", stub.url, "--key", KEY)
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert b"CANARY" not in path.read_bytes()
        assert KEY.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
