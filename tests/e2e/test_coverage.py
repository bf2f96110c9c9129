"""Every captured session's calls held against what its client says of itself, and why they differ."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import manifests
from infra.embedded import COMMAND, PERIOD, Caller, Embedded, Keys, Machine, environment
from infra.manifests import RUNS, session_dir
from infra.telemetry import Exporter, payloads
from infra.waiting import until


class Developer:
    """One organisation with a machine that has the logs, and clients that export telemetry."""

    def __init__(self, system: Embedded, keys: Keys, home: Path) -> None:
        self._machine = Machine(home, system, keys)
        self._exporter = Exporter(system.ready, keys.machine_key)
        self.caller: Caller = system.caller(keys)

    def push(self) -> None:
        ended = self._machine.push(*(session_dir(run) for run in RUNS))
        assert (ended.code, ended.json["rejected"]) == (0, 0)

    def export(self) -> None:
        self._exporter.send_all(payload for run in RUNS for payload in payloads(run))

    def close(self) -> None:
        self._exporter.close()


@pytest.fixture
def developer(system: Embedded, keys: Keys, tmp_path: Path) -> Iterator[Developer]:
    made = Developer(system, keys, tmp_path / "developer")
    yield made
    made.close()


FORKS = "06-fork-session"
CUT_STREAM = "16-cut-stream-retry"
COMPACTION = "20-slash-compact"
OLD = "24-old-1.0.128-slow"
KILLED = "15-killed-midstream"
REFUSED = "19-bad-request-400"
WITHOUT_SESSION = "09-bearer-gzip-toggles"
"""Its metrics name no session."""


def sessions() -> dict[str, str]:
    """Return the run that each captured session belongs to."""
    return {session: run for run in RUNS for session in manifests.manifest(run)["session_ids"]}


def forks() -> set[str]:
    parent = manifests.manifest(FORKS)["upstream_requests"][0]["session_header"]
    return {session for session, run in sessions().items() if run == FORKS} - {parent}


def against_log(session: str, run: str, cut: str, compaction: str) -> dict[str, str]:
    """Return what the totals in the log must be found to be."""
    if run in (KILLED, OLD, REFUSED):
        return {}  # it states none, or none but zeros
    if session in forks():
        return {"log": "client_counts_other_calls"}
    return {"log": {CUT_STREAM: cut, COMPACTION: compaction}.get(run, "equal")}


def against_metrics(run: str) -> dict[str, str]:
    """Return what the metrics must be found to be."""
    if run in (KILLED, REFUSED):
        return {}
    # The old version takes five minutes for every cache write; its log knows better.
    return {"metrics": {CUT_STREAM: "retried_stream", OLD: "price_differs"}.get(run, "equal")}


def reasons(caller: Caller) -> dict[str, dict[str, str]]:
    return {
        one["session_id"]: {said["against"]: said["likely_reason"] for said in one["reconciliation"]}
        for one in caller.items("coverage")
    }


def test_the_log_alone_says_by_how_much_it_falls_short_of_its_own_totals(developer: Developer) -> None:
    developer.push()
    expected = {
        session: against_log(session, run, "log_lacks_calls", "log_lacks_calls")
        for session, run in sessions().items()
        if run not in (KILLED, REFUSED)  # no call is on these logs
    }
    assert reasons(developer.caller) == expected
    total = developer.caller.ask("coverage/days", **PERIOD)["total"]
    assert total["calls_telemetry_lacks"] == total["calls"] == total["seen_by"]["cli"]


def test_telemetry_alone_agrees_with_its_own_metrics(developer: Developer) -> None:
    developer.export()
    expected = {
        # Without its log nobody knows that the old version wrote to the cache for an hour.
        session: {"metrics": "equal"} if run == OLD else against_metrics(run)
        for session, run in sessions().items()
        if run not in (KILLED, WITHOUT_SESSION)  # no event, or none that names its session
    }
    assert reasons(developer.caller) == expected
    total = developer.caller.ask("coverage/days", **PERIOD)["total"]
    assert total["calls_log_lacks"] == total["calls"] == total["seen_by"]["otlp"]


async def test_log_and_telemetry_together_agree_with_both_statements_or_say_why_not(
    developer: Developer,
) -> None:
    developer.push()
    developer.export()
    expected = {
        session: {
            **({} if run == WITHOUT_SESSION else against_metrics(run)),
            **against_log(session, run, "retried_stream", "equal"),
        }
        for session, run in sessions().items()
        if run != KILLED
    }
    # What is linked afterwards, as the telemetry without ids is, takes one more turn through the topic.
    await until(lambda: reasons(developer.caller) == expected)
    lacking = {one["session_id"]: one["calls_log_lacks"] for one in developer.caller.items("coverage")}
    runs = sessions()
    assert {runs[s]: n for s, n in lacking.items() if n} == {COMPACTION: 2, OLD: 2, REFUSED: 1}
    assert not any(one["possible_doubles"] for one in developer.caller.items("coverage"))


def test_the_command_line_shows_what_the_query_api_answers(
    system: Embedded, keys: Keys, developer: Developer
) -> None:
    developer.push()
    settings = {"TOKENTIDE_KEY": keys.api_key, "TOKENTIDE_QUERY_URL": system.ready["query"]}

    def said(*flags: str) -> str:
        command = [COMMAND, "coverage", "2026-11-01..2026-11-30", "--tz", "UTC", *flags]
        env = environment(system.data_dir, **settings)
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    assert json.loads(said("--json"))["items"] == developer.caller.items("coverage", tz="UTC")
    assert json.loads(said("--json", "--by", "day")) == developer.caller.ask(
        "coverage/days", **PERIOD, tz="UTC"
    )
    assert "log: log lacks calls (+28,299 tokens)" in said()
    assert "2026-11-22" in said("--by", "day")
