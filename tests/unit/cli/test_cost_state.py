"""The totals that Claude Code writes into its own log: read, kept in step with the calls, sent once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ingest_stub import KEY, IngestStub
from infra.manifests import RUNS, manifest, session_dir
from tokentide.claude_code import UNREADABLE
from tokentide.collecting import Collector
from tokentide.cost_state import TotalsPlace, highest, read_totals
from tokentide.log_files import session_files
from tokentide.push_state import PushState
from tokentide_common.session_totals import ModelTotals, SessionTotals

from .conftest import Run

AT = "2026-11-22T01:10:47+00:00"
# A cut stream counts twice in the client's own totals; no call, or a killed client, leaves none.
WITHOUT_TRUTH = {"16-cut-stream-retry", "15-killed-midstream", "19-bad-request-400", "24-old-1.0.128-slow"}


def line(**fields: Any) -> bytes:
    used = {"inputTokens": 6, "outputTokens": 89, "thinkingTokens": 4, "cacheReadInputTokens": 5}
    said = {
        "type": "cost-state",
        "sessionId": "s",
        "startTime": 1795309845990,
        "modelUsage": {"m": {**used, "cacheCreationInputTokens": 7, "costUSD": 0.015571499999999999}},
        "totalCostUSD": 0.0155715,
    }
    return json.dumps(said | fields).encode()


def collected(tmp_path: Path, *paths: Path) -> list[SessionTotals]:
    state = PushState(tmp_path / "state.json")
    found = []
    for batch in Collector(state).batches(paths):
        found += batch.totals
        state.advance(batch.marks)
    state.save()
    return found


def of_run(run: str, tmp_path: Path) -> dict[str, SessionTotals]:
    found = collected(tmp_path, *session_files([session_dir(run)]))
    return {totals.session_id: totals for totals in found}


def test_a_line_gives_the_totals_of_each_model() -> None:
    totals = read_totals(line(), TotalsPlace(AT, "s", "tide"))
    assert totals == SessionTotals(
        session_id="s",
        at=datetime.fromisoformat(AT),
        started_at=datetime(2026, 11, 22, 1, 10, 45, 990_000, tzinfo=UTC),
        client="claude-code",
        project="tide",
        models={"m": ModelTotals(6, 5, 7, 89, 4, "0.0155715")},
    )


@pytest.mark.parametrize("run", sorted(set(RUNS) - WITHOUT_TRUTH))
def test_the_totals_of_a_log_hold_every_call_that_the_server_answered(run: str, tmp_path: Path) -> None:
    found = of_run(run, tmp_path)
    # A fork's totals go on from those of the session it was forked from.
    own = {s: totals for s, totals in found.items() if not totals.forked_from}
    if len(own) == len(found):
        (totals,) = found.values()
        truth = manifest(run)["totals_by_model_completed"]
        assert {model: (used.input_tokens, used.output_tokens) for model, used in totals.models.items()} == {
            model: (used["input_tokens"], used["output_tokens"]) for model, used in truth.items()
        }


def test_totals_count_the_requests_that_the_log_does_not_show(tmp_path: Path) -> None:
    (totals,) = of_run("20-slash-compact", tmp_path).values()
    assert sum(used.input_tokens for used in totals.models.values()) == 96


def test_a_fork_names_its_parent(tmp_path: Path) -> None:
    made_by = [r["session_header"] for r in manifest("06-fork-session")["upstream_requests"]]
    parent, fork, second = dict.fromkeys(made_by)
    found = of_run("06-fork-session", tmp_path)
    assert {s: totals.forked_from for s, totals in found.items()} == {
        parent: "",
        fork: parent,
        second: parent,
    }


def test_no_calls_or_a_killed_client_leave_no_totals(tmp_path: Path) -> None:
    assert of_run("15-killed-midstream", tmp_path) == {}
    assert of_run("19-bad-request-400", tmp_path) == {}


@pytest.mark.parametrize(
    "damaged",
    [
        line(modelUsage=[]),
        line(modelUsage={"m": {"inputTokens": "many"}}),
        line(modelUsage={"m": {"inputTokens": -1}}),
        line(modelUsage={str(n): {} for n in range(65)}),
        line(startTime=-1),
        line(startTime=2**60),
        line(sessionId=None),
        line()[:-1],
        b'{"type":"cost-state"}',
    ],
)
def test_a_damaged_line_is_unreadable_and_no_more(damaged: bytes) -> None:
    with pytest.raises(UNREADABLE):
        read_totals(damaged, TotalsPlace(AT))


@pytest.mark.parametrize(
    "other",
    [
        line(modelUsage={}),
        line(type="user"),
        line(padding="x" * 70_000),
        json.dumps({"type": "user", "message": line().decode()}).encode(),
        b"",
    ],
)
def test_a_line_about_something_else_states_nothing(other: bytes) -> None:
    assert read_totals(other, TotalsPlace(AT)) is None


def test_a_log_without_any_time_states_nothing() -> None:
    assert read_totals(line(), TotalsPlace()) is None


@pytest.mark.parametrize("cost", [-1, 1e300])
def test_an_impossible_cost_leaves_the_tokens(cost: float) -> None:
    totals = read_totals(line(modelUsage={"m": {"inputTokens": 6, "costUSD": cost}}), TotalsPlace(AT))
    assert totals is not None
    assert totals.models == {"m": ModelTotals(input_tokens=6)}


COUNTS = st.integers(0, 10**13)
MODELS = st.dictionaries(
    st.sampled_from("ab"),
    st.builds(ModelTotals, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from(["0", "0.5", "10", "9"])),
)
SAID = st.builds(
    SessionTotals,
    session_id=st.just("s"),
    at=st.integers(0, 9).map(lambda n: datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=n)),
    models=MODELS,
)


@given(st.lists(SAID, min_size=3, max_size=3))
def test_the_highest_of_several_totals_is_the_same_in_any_order_and_however_often(
    said: list[SessionTotals],
) -> None:
    joins = []
    for order in permutations(said):
        known: SessionTotals | None = None
        for one in (*order, *order):
            known = highest(known, one)
        joins.append(known)
    assert all(join == joins[0] for join in joins)


def test_totals_are_sent_once_and_again_when_they_change(tmp_path: Path) -> None:
    (source,) = session_files([session_dir("04-multiturn-models")])
    lines = source.read_bytes().split(b"\n")
    log = tmp_path / "log.jsonl"
    ends = [n + 1 for n, text in enumerate(lines) if b'"cost-state"' in text]
    sent = []
    for end in ends:
        log.write_bytes(b"\n".join(lines[:end]) + b"\n")
        sent += collected(tmp_path, log)
        assert collected(tmp_path, log) == []
    assert [len(totals.models) for totals in sent] == [1, 2, 3]
    with log.open("ab") as stream:  # a process that made no call says the same again
        stream.write(lines[ends[-1] - 1] + b"\n")
    assert collected(tmp_path, log) == []


def test_their_time_is_that_of_the_last_call_also_when_it_was_read_before(tmp_path: Path) -> None:
    (source,) = session_files([session_dir("20-slash-compact")])
    lines = source.read_bytes().split(b"\n")
    log = tmp_path / "log.jsonl"
    first = next(n for n, text in enumerate(lines) if b'"cost-state"' in text)
    log.write_bytes(b"\n".join(lines[:first]) + b"\n")
    assert collected(tmp_path, log) == []
    log.write_bytes(b"\n".join(lines[: first + 1]) + b"\n")
    (totals,) = collected(tmp_path, log)
    assert totals.at == datetime(2026, 11, 22, 1, 12, 15, 715_000, tzinfo=UTC)


def test_push_sends_totals_and_names_those_that_the_server_refuses(
    tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(session_dir("06-fork-session")))
    with IngestStub() as stub:
        stub.refuse_totals = True
        ended = tokentide("push", "--url", stub.url, "--key", KEY, "--json")
        assert ended.code == 1
        assert "totals of 076a050b-b44a-4c9c-bf74-005f8fd97d0d: refused by the stub" in ended.err
        summary = json.loads(ended.out)
        assert (summary["totals"], summary["accepted"], summary["rejected"]) == (3, 4, 3)
        assert tokentide("push", "--url", stub.url, "--key", KEY).code == 0
        assert len(stub.bodies) == 1
    sent = msgspec.json.decode(stub.bodies[0], type=dict[str, Any])
    assert len(sent["totals"]) == 3
