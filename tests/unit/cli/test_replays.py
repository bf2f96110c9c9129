"""Side conversations copy their parent's calls under new request ids; these are not calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokentide.collecting import Collector
from tokentide.push_state import PushState


def line(request: str, message: str, *, sidechain: bool) -> str:
    said = {"id": message, "model": "claude-opus-5-5", "usage": {"input_tokens": 1, "output_tokens": 1}}
    fields = {"type": "assistant", "timestamp": "2026-11-22T01:10:12.061Z", "isSidechain": sidechain}
    return json.dumps({**fields, "sessionId": "s-1", "requestId": request, "message": said}) + "\n"


@pytest.mark.parametrize(
    "side",
    [
        "s-1/subagents/agent-aside_question-1.jsonl",
        "s-1/subagents/workflows/w/agent-a.jsonl",
        "agent-a.jsonl",
    ],
)
@pytest.mark.parametrize("parent_first", [True, False])
def test_a_replayed_call_is_counted_once_and_the_side_conversations_own_call_too(
    tmp_path: Path, side: str, parent_first: bool
) -> None:
    parent, child = tmp_path / "s-1.jsonl", tmp_path / side
    child.parent.mkdir(parents=True, exist_ok=True)
    parent.write_text(line("req_1", "msg_1", sidechain=False))
    replays = line("req_9", "msg_1", sidechain=True) + line("req_1", "msg_1", sidechain=True)
    child.write_text(replays + line("req_2", "msg_2", sidechain=True))
    collector = Collector(PushState(tmp_path / "state.json"))
    paths = [parent, child] if parent_first else [child, parent]
    events = [event for batch in collector.batches(paths) for event in batch.events]
    assert sorted(event.call_id for event in events) == ["req_1", "req_2"]
    assert collector.counts.replayed_lines == 1


def test_a_subagent_whose_parent_is_gone_still_counts(tmp_path: Path) -> None:
    child = tmp_path / "s-1" / "subagents" / "agent-a.jsonl"
    child.parent.mkdir(parents=True)
    child.write_text(line("req_2", "msg_2", sidechain=True))
    collector = Collector(PushState(tmp_path / "state.json"))
    assert [event.call_id for batch in collector.batches([child]) for event in batch.events] == ["req_2"]
