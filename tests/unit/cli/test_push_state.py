"""Which files count as known, and from where they are read on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tokentide.collecting import Collector
from tokentide.push_state import PushState


def call_line(number: int, padding: str = "") -> str:
    usage = {"input_tokens": number, "output_tokens": 1}
    message = {"id": f"msg_{number}", "model": "claude-opus-5-5", "content": padding, "usage": usage}
    fields = {"type": "assistant", "timestamp": "2026-11-22T01:10:12.061Z", "cwd": "/srv/tide"}
    return json.dumps({**fields, "sessionId": "s", "requestId": f"req_{number}", "message": message}) + "\n"


def write(path: Path, numbers: Iterable[int], tail: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(map(call_line, numbers)) + tail)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    write(path, range(5))
    return path


def push(tmp_path: Path, *paths: Path, **bounds: int) -> list[int]:
    """Read what is new, remember it, and return the calls by their number of input tokens."""
    state = PushState(tmp_path / "state.json")
    events = []
    for batch in Collector(state, **bounds).batches(paths):
        events += batch.events
        state.advance(batch.marks)
    state.save()
    return sorted(event.input_tokens for event in events)


def test_only_what_is_new_is_read(tmp_path: Path, log: Path) -> None:
    assert push(tmp_path, log) == [0, 1, 2, 3, 4]
    assert push(tmp_path, log) == []
    with log.open("a") as stream:
        stream.write(call_line(5))
    assert push(tmp_path, log) == [5]


def test_a_line_being_written_is_read_when_it_is_complete(tmp_path: Path, log: Path) -> None:
    half, rest = call_line(5)[:50], call_line(5)[50:]
    write(log, range(5), tail=half)
    assert push(tmp_path, log) == [0, 1, 2, 3, 4]
    with log.open("a") as stream:
        stream.write(rest)
    assert push(tmp_path, log) == [5]


def test_a_truncated_file_is_read_again(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    write(log, range(2))
    assert push(tmp_path, log) == [0, 1]


def test_a_file_truncated_and_grown_past_the_old_end_is_read_again(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    write(log, range(10, 30))
    assert push(tmp_path, log) == list(range(10, 30))


def test_a_file_rewritten_behind_an_unchanged_beginning_is_read_again(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    write(log, [0, 1, 12, 13, 14, 15])
    assert push(tmp_path, log) == [0, 1, 12, 13, 14, 15]


def test_a_replaced_file_is_read_again(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    other = tmp_path / "other"
    write(other, range(20, 26))
    other.replace(log)
    assert push(tmp_path, log) == list(range(20, 26))


def test_a_renamed_file_is_known_again(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    moved = log.rename(tmp_path / "moved.jsonl")
    assert push(tmp_path, moved) == []
    state = PushState(tmp_path / "state.json")
    state.forget_vanished()
    state.save()
    assert push(tmp_path, moved) == []


def test_what_the_first_lines_said_holds_for_lines_read_later(tmp_path: Path, log: Path) -> None:
    write(log, range(1))
    push(tmp_path, log)
    with log.open("a") as stream:
        stream.write(call_line(1).replace("/srv/tide", "/srv/other").replace("01:10", "07:10"))
    state = PushState(tmp_path / "state.json")
    (event,) = next(Collector(state).batches([log])).events
    assert event.project == "tide"
    assert event.session_started_at is not None
    assert event.session_started_at.hour == 1
    assert event.occurred_at.hour == 7


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version":99,"marks":{}}', b"\xff\xfe"])
def test_a_damaged_state_sends_everything_again(tmp_path: Path, log: Path, damage: bytes) -> None:
    push(tmp_path, log)
    (tmp_path / "state.json").write_bytes(damage)
    assert push(tmp_path, log) == [0, 1, 2, 3, 4]


def test_marks_of_vanished_files_are_dropped(tmp_path: Path, log: Path) -> None:
    push(tmp_path, log)
    log.unlink()
    state = PushState(tmp_path / "state.json")
    state.forget_vanished()
    state.save()
    assert str(log) not in (tmp_path / "state.json").read_text()


@pytest.mark.parametrize(
    "bounds", [{"max_events": 1}, {"max_events": 3}, {"max_bytes": 1}, {"max_events": 1000}]
)
def test_a_batch_that_was_not_accepted_is_read_again_and_no_other(
    tmp_path: Path, bounds: dict[str, int]
) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for index, path in enumerate(paths):
        write(path, range(10 * index, 10 * index + 4))
    everything = [event for path in paths for event in push(tmp_path / path.stem, path)]
    accepted_first = 0
    state = PushState(tmp_path / "state.json", save_every_s=0)
    batches = Collector(state, **bounds).batches(paths)
    if first := next(batches, None):
        state.advance(first.marks)
        accepted_first = len(first.events)
        sent = [event.input_tokens for event in first.events]
    next(batches, None)  # the second batch was on its way when the lights went out
    rest = push(tmp_path, *paths, **bounds)
    assert sorted(sent + rest) == everything
    assert len(rest) == len(everything) - accepted_first


def test_a_huge_line_and_a_broken_one_are_counted_and_do_not_stop_the_rest(tmp_path: Path, log: Path) -> None:
    log.write_bytes(b'{"usage"\n' + call_line(1).encode() + b'\xff"usage"\xff\n' + call_line(2).encode())
    collector = Collector(PushState(tmp_path / "state.json"))
    events = [event for batch in collector.batches([log, tmp_path / "gone.jsonl"]) for event in batch.events]
    assert [event.input_tokens for event in events] == [1, 2]
    assert (collector.counts.unreadable_lines, collector.counts.lines) == (2, 4)


def test_the_lines_of_one_call_are_not_cut_apart(tmp_path: Path, log: Path) -> None:
    log.write_text("".join(call_line(number) * 3 for number in range(7)))
    batches = Collector(PushState(tmp_path / "state.json"), max_events=2).batches([log])
    assert [[event.input_tokens for event in batch.events] for batch in batches] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6],
    ]
