"""`tokentide push` against a server that keeps the contract, and one that fails in every documented way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from infra import manifests
from infra.ingest_stub import KEY, Fault, IngestStub
from tokentide.connection import Connection
from tokentide.failures import Exit, Failure
from tokentide.http import open_client
from tokentide.machine import Machine
from tokentide.sending import Patience, Sender, retry_after
from tokentide_common.events import UsageEvent

from .conftest import Run

RUN = "06-fork-session"


@pytest.fixture
def stub(home: Path, monkeypatch: pytest.MonkeyPatch):
    with IngestStub() as server:
        monkeypatch.setenv("TOKENTIDE_INGEST_URL", server.url)
        monkeypatch.setenv("TOKENTIDE_KEY", KEY)
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(manifests.session_dir(RUN)))
        yield server


def many_calls(root: Path, calls: int) -> None:
    """Write a log of two files with so many calls, each on two lines."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    for part in range(2):
        path = root / "projects" / "-srv-tide" / f"s{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            for number in range(part * calls // 2, (part + 1) * calls // 2):
                message = {"id": f"msg_{number}", "model": "claude-opus-5-5", "usage": usage}
                fields = {"type": "assistant", "timestamp": "2026-11-22T01:10:12Z", "sessionId": f"s{part}"}
                line = json.dumps({**fields, "requestId": f"req_{number}", "message": message}) + "\n"
                stream.write(line + line)


def sender_for(stub: IngestStub, sleeps: list[float], **patience: float) -> tuple[httpx.Client, Sender]:
    connection = Connection(stub.url, KEY)
    client = open_client(connection, timeout_s=5)
    return client, Sender(
        client, connection, Machine("m", "n"), patience=Patience(**patience), sleep=sleeps.append
    )


def event() -> UsageEvent:
    return UsageEvent(call_id="req_1", source="cli", occurred_at=datetime(2026, 11, 22, tzinfo=UTC))


def test_a_second_push_sends_nothing(stub: IngestStub, tokentide: Run) -> None:
    assert "4 calls sent in 1 batches from 3 of 3 files" in tokentide("push").out
    again = tokentide("push")
    assert (again.code, len(stub.bodies)) == (0, 1)
    assert "0 calls sent" in again.out
    assert set(stub.calls) == {r["request_id"] for r in manifests.manifest(RUN)["upstream_requests"]}


def test_another_server_key_or_machine_gets_everything(
    stub: IngestStub, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokentide("push")
    with IngestStub() as other:
        assert tokentide("push", "--url", other.url).code == 0
        assert other.calls.keys() == stub.calls.keys()
    tokentide("push", "--machine", "laptop")
    assert [machine["id"] == "laptop" for machine in stub.machines] == [False, True]


def test_resend_sends_everything_again(stub: IngestStub, tokentide: Run) -> None:
    tokentide("push")
    assert json.loads(tokentide("push", "--resend", "--json").out)["accepted"] == 4


def test_the_machine_keeps_its_id(stub: IngestStub, tokentide: Run) -> None:
    tokentide("push")
    tokentide("push", "--resend")
    assert stub.machines[0] == stub.machines[1]
    assert stub.machines[0]["id"]


def test_batches_hold_at_most_a_thousand_events(stub: IngestStub, tokentide: Run, home: Path) -> None:
    many_calls(home / ".claude", 2500)
    os.environ.pop("CLAUDE_CONFIG_DIR")
    summary = json.loads(tokentide("push", "--json").out)
    assert stub.batch_sizes == [1000, 1000, 500]
    assert (summary["lines"], summary["events"], summary["accepted"], summary["batches"]) == (
        5000,
        2500,
        2500,
        3,
    )


def test_waiting_asks_for_verdicts_and_counts_them(stub: IngestStub, tokentide: Run) -> None:
    summary = json.loads(tokentide("push", "--wait", "7", "--json").out)
    assert summary["verdicts"] == {"counted": 4}
    assert stub.headers[-1]["prefer"] == "wait=7"
    assert "4 duplicate" in tokentide("push", "--resend", "--wait", "7").out


def test_refused_events_are_named_and_the_rest_goes_through(stub: IngestStub, tokentide: Run) -> None:
    stub.refuse_models = {"claude-haiku-5-5"}
    ended = tokentide("push")
    assert ended.code == Exit.FAILED
    assert "req_011Cy79suGcDjr5WZmNpDik9: refused by the stub (invalid_event)" in ended.err
    assert len(stub.calls) == 3
    assert tokentide("push").code == 0  # they would be refused again: not sent twice


def test_a_busy_server_is_asked_again_after_the_time_it_names(stub: IngestStub) -> None:
    stub.faults.extend([Fault(503, (("retry-after", "7"),)), Fault(429), Fault(500)])
    sleeps: list[float] = []
    client, sender = sender_for(stub, sleeps, base_s=0.5, longest_s=1)
    with client:
        assert sender.send([event()]).accepted == 1
    assert 7 <= sleeps[0] <= 7.5
    assert 0 <= sleeps[1] <= 1
    assert 0 <= sleeps[2] <= 1
    assert sender.retries == 3


def test_a_server_that_stays_away_ends_the_push_as_temporary(stub: IngestStub, tokentide: Run) -> None:
    stub.faults.append(Fault(503, (("retry-after", "3600"),)))
    ended = tokentide("push", "--json")
    assert ended.code == Exit.TRY_LATER
    assert "as asked" in json.loads(ended.out)["error"]
    assert len(stub.headers) == 1, "an hour's wait is not begun when two minutes are the bound"
    assert tokentide("push").code == 0
    assert len(stub.calls) == 4


def test_a_server_that_is_not_there_ends_the_push_as_temporary(stub: IngestStub, tokentide: Run) -> None:
    ended = tokentide("push", "--url", "http://127.0.0.1:9", "--give-up-after", "0")
    assert ended.code == Exit.TRY_LATER
    assert "cannot reach http://127.0.0.1:9" in ended.err
    assert "tokentide up" in ended.err


def test_a_batch_whose_answer_got_lost_is_sent_again(stub: IngestStub, tokentide: Run) -> None:
    stub.faults.append(Fault(drop_after_accept=True))
    summary = json.loads(tokentide("push", "--json").out)
    assert (summary["accepted"], summary["retries"]) == (4, 1)
    assert stub.bodies[0] == stub.bodies[1]
    assert len(stub.calls) == 4


def test_a_wrong_key_is_not_tried_again(stub: IngestStub, tokentide: Run) -> None:
    ended = tokentide("push", "--key", "tt_m_wrong")
    assert ended.code == Exit.FAILED
    assert "(unauthorized): unknown key" in ended.err
    assert "TOKENTIDE_KEY" in ended.err
    assert len(stub.headers) == 1


def test_something_else_that_answers_200_takes_no_events(home: Path) -> None:
    client = httpx.Client(
        base_url="http://portal", transport=httpx.MockTransport(lambda _: httpx.Response(200))
    )
    with client, pytest.raises(Failure, match="not as a Tokentide server does"):
        Sender(client, Connection("http://portal", KEY), Machine("m", "n")).send([event()])


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("", 0), ("soon", 0), ("-3", 0), ("²", 0), ("date", 90), ("past", 0)]
)
def test_retry_after_is_understood_as_number_and_as_date(text: str, seconds: float) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    dates = {"date": now + timedelta(seconds=90), "past": now - timedelta(days=1)}
    if text in dates:
        text = dates[text].strftime("%a, %d %b %Y %H:%M:%S GMT")
    response = httpx.Response(503, headers=[(b"retry-after", text.encode("latin-1"))])
    assert retry_after(response, now) == seconds


def test_the_embedded_system_is_found_through_its_data_folder(
    stub: IngestStub, tokentide: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENTIDE_INGEST_URL")
    monkeypatch.delenv("TOKENTIDE_KEY")
    missing = tokentide("push", "--data-dir", str(home))
    assert (missing.code, "tokentide up" in missing.err) == (Exit.USAGE, True)
    (home / "addresses.json").write_text(json.dumps({"ready": True, "ingest": stub.url, "query": "http://q"}))
    keyless = tokentide("push", "--data-dir", str(home))
    assert (keyless.code, "tt_m_" in keyless.err) == (Exit.USAGE, True)
    (home / "credentials.json").write_text(
        json.dumps({"organization": "o", "machine_key": KEY, "api_key": "x"})
    )
    assert tokentide("push", "--data-dir", str(home)).code == 0
    assert len(stub.calls) == 4


def test_no_logs_is_said_and_is_no_mistake(stub: IngestStub, tokentide: Run, home: Path) -> None:
    os.environ["CLAUDE_CONFIG_DIR"] = str(home / "nowhere")
    ended = tokentide("push")
    assert (ended.code, "no Claude Code logs found" in ended.err) == (0, True)


def test_killed_in_the_middle_nothing_is_lost_and_what_was_accepted_is_not_sent_again(
    stub: IngestStub, home: Path
) -> None:
    many_calls(home / ".claude", 3500)
    stub.faults.extend([None, None, Fault(hang_after_accept=True)])
    environ = {name: value for name, value in os.environ.items() if name != "CLAUDE_CONFIG_DIR"}
    command = [sys.executable, "-m", "tokentide", "push", "--state-dir", str(home / "state")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        assert stub.hanging.wait(30)
        process.send_signal(signal.SIGKILL)
    stub.release.set()
    assert process.returncode == -signal.SIGKILL
    before = sum(stub.batch_sizes)
    ended = subprocess.run([*command, "--json"], env=environ, capture_output=True, check=True)
    summary = json.loads(ended.stdout)
    assert set(stub.calls) == {f"req_{number}" for number in range(3500)}
    assert before == 3000
    # The first batch was remembered at once, the second within a second, the third was never answered.
    assert 1500 <= summary["accepted"] <= 2500
    third = subprocess.run([*command, "--json"], env=environ, capture_output=True, check=True)
    assert json.loads(third.stdout)["accepted"] == 0


def test_interrupting_keeps_what_was_accepted(stub: IngestStub, home: Path) -> None:
    many_calls(home / ".claude", 2500)
    stub.faults.extend([None, None, Fault(hang_after_accept=True)])
    environ = {name: value for name, value in os.environ.items() if name != "CLAUDE_CONFIG_DIR"}
    command = [sys.executable, "-m", "tokentide", "push", "--state-dir", str(home / "state")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert stub.hanging.wait(30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    stub.release.set()
    assert process.returncode == 130
    ended = subprocess.run([*command, "--json"], env=environ, capture_output=True, check=True)
    assert json.loads(ended.stdout)["accepted"] == 500
