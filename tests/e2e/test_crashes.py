"""`kill -9` at any moment: what was acknowledged is there afterwards, and nothing is there twice.

The broker forgets everything with the system, even its topics: after each start, offsets begin at 0 again.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.embedded import BATCHES, Embedded, Machine, finished
from infra.process import listens

# How the rounds end: at a random moment, or between two steps of counting a block of calls.
DEATHS = ("after_insert:kill@3", "", "before_insert:kill@3", "after_seen:kill@2")
BATCH = 40
CALLS_A_ROUND = 1500
# A push that lost its server may say: try later.
SENT, TRY_LATER = 0, 75


class Sender(threading.Thread):
    """Posts one batch after the other until told to stop, and remembers what was acknowledged."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.sent: list[dict[str, Any]] = []
        self.acknowledged: set[str] = set()
        self.any_acknowledged = threading.Event()
        self._client = client
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            first = len(self.sent)
            events = [event(f"req_{self.name}_{first + n}") for n in range(BATCH)]
            self.sent += events
            try:
                answer = self._client.post(BATCHES, json={"events": events})
            except httpx.TransportError:
                return  # its server is dead; what it had sent by then may or may not be counted
            if answer.status_code in (200, 202):
                assert answer.json()["accepted"] == BATCH
                self.acknowledged |= {one["call_id"] for one in events}
                self.any_acknowledged.set()

    def end(self) -> None:
        self._ended.set()
        self.join(60)
        assert not self.is_alive()


def event(call_id: str) -> dict[str, Any]:
    fields = {"source": "cli", "occurred_at": "2026-11-22T11:00:00Z", "session_id": "direct"}
    return {"call_id": call_id, **fields, "model": "claude-opus-4-5", "output_tokens": 3}


class Log:
    """A Claude Code log that grows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = 0
        self._file = root / "projects" / "-srv-tide" / "grows.jsonl"
        self._file.parent.mkdir(parents=True)

    def grow(self, calls: int) -> None:
        usage = {"input_tokens": 1, "output_tokens": 2}
        fields = {"type": "assistant", "timestamp": "2026-11-22T10:00:00Z", "sessionId": "grows"}
        with self._file.open("a") as stream:
            for number in range(self.calls, self.calls + calls):
                message = {"id": f"msg_{number}", "model": "claude-opus-4-5", "usage": usage}
                line = {**fields, "requestId": f"req_log_{number}", "message": message}
                stream.write(json.dumps(line) + "\n")
        self.calls += calls


def counted(system: Embedded) -> Counter[str]:
    return Counter(call["call_id"] for call in system.caller().items("calls"))


def dead(system: Embedded, watched: subprocess.Popen[str], death: str) -> str:
    """Wait until the system is dead, and say how it died."""
    broker = system.process.children()
    if death:
        assert system.ended(within_s=60) == -signal.SIGKILL
    else:
        moment = random.uniform(0, 2)
        death = f"after {moment} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            watched.wait(moment)
    system.kill()
    psutil.wait_procs(broker, timeout=10)
    assert not any(child.is_running() for child in broker), "the broker outlived its system"
    return death


def free_from(port: int) -> int:
    """Return a free port below those that clients are given: one of them could take it meanwhile."""
    return next(one for one in range(port, 32_768) if not listens(one))


@pytest.fixture
def system(tmp_path: Path) -> Any:
    # The same ports again after a crash, so that clients find the server where it was.
    ingest, query = random.sample(range(20_000, 32_000), 2)
    running = Embedded(tmp_path, ingest=free_from(ingest), query=free_from(query))
    yield running
    running.kill()


def test_killed_while_pushes_run_nothing_acknowledged_is_lost_and_nothing_is_counted_twice(
    system: Embedded, tmp_path: Path
) -> None:
    log, laptop = Log(tmp_path / "claude"), Machine(tmp_path / "laptop", system)
    senders: list[Sender] = []
    acknowledged: set[str] = set()
    deaths: list[str] = []
    for number, death in enumerate(DEATHS):
        system.start(TOKENTIDE_FAILPOINT=death)
        present = counted(system)
        assert acknowledged - present.keys() == set(), f"lost; killed {deaths}"
        assert max(present.values(), default=1) == 1, f"doubled; killed {deaths}"
        assert system.caller().summary()["calls"] == len(present), f"doubled; killed {deaths}"

        log.grow(CALLS_A_ROUND)
        direct = [Sender(system.sender(), f"r{number}s{i}") for i in range(2)]
        for sender in direct:
            sender.start()
        if not death:
            # Something is acknowledged first: at offsets that earlier rounds had used for other calls.
            assert all(sender.any_acknowledged.wait(60) for sender in direct)
        pushing = laptop.start_push(log.root, flags=("--give-up-after", "0"))
        deaths.append(dead(system, pushing, death))
        for sender in direct:
            sender.end()
            acknowledged |= sender.acknowledged
        assert finished(pushing).code in (SENT, TRY_LATER)
        senders += direct

    # In the end a push that meets a dead server finds it again by itself.
    pushing = laptop.start_push(log.root)
    system.start()
    assert finished(pushing).code == SENT
    assert acknowledged - counted(system).keys() == set(), f"lost; killed {deaths}"
    sent = [one for sender in senders for one in sender.sent]
    for first in range(0, len(sent), 1000):
        answer = system.sender().post(BATCHES, json={"events": sent[first : first + 1000]})
        assert answer.status_code == 202
    truth = {one["call_id"] for one in sent} | {f"req_log_{n}" for n in range(log.calls)}
    assert counted(system) == Counter(truth), f"killed {deaths}"
    summary = system.caller().summary()
    assert (summary["calls"], summary["input_tokens"], summary["output_tokens"]) == (
        len(truth),
        log.calls,
        2 * log.calls + 3 * len(sent),
    )
    assert {s["session_id"]: s["calls"] for s in system.caller().items("sessions")} == {
        "grows": log.calls,
        "direct": len(sent),
    }


def test_killed_while_it_starts_the_next_start_is_a_whole_one(system: Embedded, tmp_path: Path) -> None:
    moments = []
    for _ in range(3):
        moments.append(random.uniform(0, 3))
        system.spawn()
        system.kill_after(moments[-1])
    system.start()
    log, laptop = Log(tmp_path / "claude"), Machine(tmp_path / "laptop", system)
    log.grow(50)
    assert laptop.push(log.root).json["accepted"] == 50, moments
    assert system.caller().summary()["calls"] == 50
