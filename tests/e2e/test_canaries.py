"""No word of a conversation, no path of a person and no key stays anywhere in the running system.

The captured logs carry canaries where prompts, answers, tool inputs and results were. More are planted here:
in paths, in broken lines, in bodies that are refused, in a record that no ingest service has ever seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from infra.embedded import BATCHES, Embedded, Machine
from infra.ingest_service import everything_on
from infra.manifests import RUNS, session_dir
from infra.waiting import until
from tokentide_common.broker import Publisher, Record
from tokentide_common.topics import DEAD_LETTERS, TOPICS, USAGE

CONTENT = b"CANARY"
PATHS = (b"/home/dev", b"HIDDENHOME")
POISON = b'{"call_id": "CANARY-poison", '
TESTS = Path(__file__).parents[1]


def plant(root: Path, home: Path) -> None:
    """Write a log with canaries in every place that the captures have none: paths, keys, broken lines."""
    message = {
        "id": "msg_planted",
        "model": "claude-opus-4-5",
        "usage": {"input_tokens": 1, "output_tokens": 1, "CANARY-usage": "CANARY"},
        "content": [{"type": "tool_use", "input": {"file_path": "/CANARY", "CANARY-key": 1}}],
        "stop_sequence": "CANARY-stop",
    }
    line = {"type": "assistant", "timestamp": "2026-11-22T10:00:00Z", "sessionId": "planted"}
    lines = [
        {"type": "summary", "summary": "CANARY-summary", "leafUuid": "CANARY-leaf"},
        {"type": "user", "cwd": f"{home}/secret/planted", "message": {"content": "CANARY-prompt"}},
        line | {"requestId": "req_planted", "message": message, "CANARY": "CANARY", "cwd": str(home)},
    ]
    folder = root / "projects" / str(home).replace("/", "-")
    folder.mkdir(parents=True)
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    (folder / "planted.jsonl").write_text(f'{text}{{"type":"assistant","message":{{"usage":"CANARY-broken\n')
    # Work in the home folder itself: its name is the user's.
    at_home = line | {"requestId": "req_at_home", "message": message | {"id": "msg_2"}, "cwd": str(home)}
    (folder / "at-home.jsonl").write_text(json.dumps(at_home) + "\n")


async def misuse(system: Embedded) -> None:
    """Send canaries to every door that refuses them."""
    sender, caller = system.sender(), system.caller()
    event = {"call_id": "req_refused", "source": "cli", "occurred_at": "2026-11-22T10:00:00Z"}
    for bad in (event | {"prompt": "CANARY-field"}, event | {"model": ["CANARY"]}, "CANARY-event"):
        answer = sender.post(BATCHES, json={"events": [bad]})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 0)
        assert "CANARY" not in answer.text
    for body in (b"CANARY-body", b'{"events": "CANARY"}'):
        assert sender.post(BATCHES, content=body).status_code == 400
    wrong = {"authorization": "Bearer tt_m_CANARY", "x-tokentide-key": "tt_m_CANARY", "prefer": "CANARY"}
    assert sender.post(BATCHES, json={}, headers=wrong).status_code == 401
    assert caller.client.get("/api/v1/calls/CANARY-id").status_code == 404
    assert caller.client.get("/api/v1/usage/summary?from=CANARY&CANARY=CANARY").status_code == 400
    publisher = Publisher(system.ready["broker"])
    await publisher.publish(USAGE, [Record(b"poison", POISON)])
    await publisher.stop()


async def on_topics(url: str) -> Iterator[tuple[str, bytes]]:
    """Every record of every topic as bytes: key, headers and value."""
    found = []
    for topic in TOPICS:
        for record in await everything_on(url, topic.name):
            headers = b" ".join(name.encode() + b"=" + value for name, value in record.headers)
            found.append((topic.name, b" ".join([record.key or b"", headers, record.value or b""])))
    return iter(found)


def in_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(path), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file())


def found(words: tuple[bytes, ...], places: list[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
    return {(place, word) for place, content in places for word in words if word in content}


async def test_nothing_private_is_kept_logged_or_put_on_a_topic(own_system: Embedded, tmp_path: Path) -> None:
    home = tmp_path / "HIDDENHOME" / "laptop"
    own_system.start()
    laptop = Machine(home, own_system)
    plant(home / "claude", home)
    pushed = laptop.push(home / "claude", *map(session_dir, RUNS))
    assert (pushed.code, pushed.json["unreadable_lines"]) == (0, 1)
    await misuse(own_system)
    await until(lambda: dead_letters(own_system.ready["broker"]), what="the poison is a dead letter")
    secrets = tuple(value.encode() for name, value in own_system.credentials.items() if name.endswith("key"))
    command_line = " ".join(own_system.process.cmdline()).encode()
    broker_line = " ".join(psutil.Process(own_system.process.children()[0].pid).cmdline()).encode()

    topics = list(await on_topics(own_system.ready["broker"]))
    assert any(topic == USAGE and b"req_planted" in content for topic, content in topics)
    assert (USAGE, b"poison  " + POISON) in topics
    topics.remove((USAGE, b"poison  " + POISON))
    assert own_system.end() == 0

    stored = subprocess.run(
        [sys.executable, "-m", "infra.stored_rows", str(own_system.data_dir / "clickhouse")],
        cwd=TESTS,
        capture_output=True,
        check=True,
    ).stdout
    assert b'"req_planted"' in stored
    assert b"-- seen" in stored
    assert b'"project":"planted"' in stored
    assert b'"project":"~"' in stored
    kept = list(in_files(own_system.data_dir))
    said = [
        *(("stdout", own_system.out.encode()), ("stderr", own_system.err.encode())),
        *(("push", (pushed.out + pushed.err).encode()), ("processes", command_line + broker_line)),
    ]
    remembered = list(in_files(laptop.state))
    assert remembered
    assert {place for place, _ in kept} >= {str(own_system.data_dir / "accounts.db")}

    everywhere = [*topics, ("tables", stored), *kept, *said, *remembered]
    assert found((CONTENT,), everywhere) == set()
    # What has been sent is remembered by path, on the developer's machine and nowhere else.
    elsewhere = [*topics, ("tables", stored), *kept, ("stderr", own_system.err.encode())]
    assert found(PATHS, elsewhere) == set()
    credentials = str(own_system.data_dir / "credentials.json")
    assert found(secrets, everywhere) == {(credentials, secret) for secret in secrets}


async def dead_letters(url: str) -> bool:
    return bool(await everything_on(url, DEAD_LETTERS))
