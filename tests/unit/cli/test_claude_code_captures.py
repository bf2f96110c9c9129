"""What real clients wrote, against the account of the server that answered them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from infra import manifests
from infra.manifests import RUNS, Totals, session_dir
from tokentide.collecting import Collector
from tokentide.log_files import session_files
from tokentide.push_state import PushState
from tokentide_common.events import UsageEvent

FORKS = "06-fork-session"


def events_of(run: str, tmp_path: Path) -> list[UsageEvent]:
    collector = Collector(PushState(tmp_path / "state.json"))
    paths = session_files([session_dir(run)])
    return [event for batch in collector.batches(paths) for event in batch.events]


def totals_of(events: list[UsageEvent]) -> dict[str, Totals]:
    totals: dict[str, Totals] = {}
    for event in events:
        one = Totals(1, *(getattr(event, name) for name in Totals._fields[1:]))
        totals[event.model] = totals.get(event.model, Totals()).plus(one)
    return totals


@pytest.mark.parametrize("run", RUNS)
def test_calls_of_a_log_equal_the_truth_of_the_server(run: str, tmp_path: Path) -> None:
    assert totals_of(events_of(run, tmp_path)) == manifests.truth_for_log(run)


@pytest.mark.parametrize("run", RUNS)
def test_each_call_is_one_event_with_the_request_id_of_the_server(run: str, tmp_path: Path) -> None:
    missing = {request_id for request_id, _ in manifests.missing_from_log(run)}
    answered = {r["request_id"] for r in manifests.manifest(run)["upstream_requests"]} - missing
    assert Counter(event.call_id for event in events_of(run, tmp_path)) == Counter(answered)


def test_the_known_exceptions_are_exactly_these() -> None:
    reasons = {run: Counter(reason for _, reason in manifests.missing_from_log(run)) for run in RUNS}
    assert {run: dict(counted) for run, counted in reasons.items() if counted} == {
        "07-overload-529": {manifests.REFUSED: 2},
        "15-killed-midstream": {manifests.INTERRUPTED: 1},
        "16-cut-stream-retry": {manifests.INTERRUPTED: 1},
        "19-bad-request-400": {manifests.REFUSED: 6},
        "20-slash-compact": {manifests.COMPACTION: 2},
        "24-old-1.0.128-slow": {manifests.HELPER: 2},
    }
    assert {run: found for run in RUNS if (found := manifests.placeholders_in_log(run))} == {}


@pytest.mark.parametrize("run", RUNS)
def test_a_call_belongs_to_the_session_that_made_it(run: str, tmp_path: Path) -> None:
    made_by = {r["request_id"]: r["session_header"] for r in manifests.manifest(run)["upstream_requests"]}
    sessions = manifests.manifest(run)["session_ids"]
    for event in events_of(run, tmp_path):
        # 1.0.128 sends no session header.
        assert event.session_id == (made_by[event.call_id] or sessions[0])


@pytest.mark.parametrize("backwards", [False, True])
def test_copies_in_forked_sessions_belong_to_the_original(backwards: bool, tmp_path: Path) -> None:
    """Also without the caller's id on copied lines, as in older versions, and in any order of files."""
    paths = []
    for path in session_files([session_dir(FORKS)]):
        lines = [json.loads(line) for line in path.read_text().split("\n") if line]
        older = [{key: value for key, value in line.items() if key != "requestSessionId"} for line in lines]
        paths.append(tmp_path / path.name)
        paths[-1].write_text("".join(f"{json.dumps(line)}\n" for line in older))
    collector = Collector(PushState(tmp_path / "state.json"))
    batches = collector.batches(reversed(paths) if backwards else paths)
    sessions = {event.call_id: event.session_id for batch in batches for event in batch.events}
    made_by = {r["request_id"]: r["session_header"] for r in manifests.manifest(FORKS)["upstream_requests"]}
    assert sessions == made_by


def test_a_subagents_calls_carry_the_session_of_their_parent(tmp_path: Path) -> None:
    events = events_of("05-subagent", tmp_path)
    assert len({event.session_id for event in events}) == 1
    assert Counter((event.is_sidechain, event.agent) for event in events) == {
        (True, "general-purpose"): 2,
        (False, ""): 3,
    }


@pytest.mark.parametrize("run", RUNS)
def test_decorations_are_known_words(run: str, tmp_path: Path) -> None:
    for event in events_of(run, tmp_path):
        assert (event.source, event.client, event.provider, event.status) == (
            "cli",
            "claude-code",
            "anthropic",
            "ok",
        )
        assert event.project == run
        assert event.git_branch in ("", "feature/usage")
        assert event.inference_geo == ""
        assert event.speed in ("", "standard")
        assert event.message_id.startswith("msg_")
