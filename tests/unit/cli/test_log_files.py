"""Every session file is found, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokentide.log_files import log_roots, parent_transcript, session_files


@pytest.mark.parametrize(
    ("environ", "roots"),
    [
        ({}, ["/home/ada/.config/claude", "/home/ada/.claude"]),
        ({"XDG_CONFIG_HOME": "/xdg"}, ["/xdg/claude", "/home/ada/.claude"]),
        ({"CLAUDE_CONFIG_DIR": "/a, /b,,/a"}, ["/a", "/b"]),
        ({"CLAUDE_CONFIG_DIR": "/a", "XDG_CONFIG_HOME": "/xdg"}, ["/a"]),
        ({"CLAUDE_CONFIG_DIR": "  "}, ["/home/ada/.config/claude", "/home/ada/.claude"]),
    ],
)
def test_the_named_folders_are_searched_else_the_defaults(environ: dict[str, str], roots: list[str]) -> None:
    assert log_roots(environ, Path("/home/ada")) == [Path(root) for root in roots]


def test_subagents_are_found_and_nothing_is_found_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    files = [
        "-srv-tide/s.jsonl",
        "-srv-tide/s/subagents/agent-a.jsonl",
        "-srv-tide/s/subagents/workflows/w/agent-b.jsonl",
    ]
    for name in [*files, "-srv-tide/s/subagents/agent-a.meta.json"]:
        path = first / "projects" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    second.symlink_to(first)
    found = session_files([first, second, tmp_path / "missing", first / "projects"])
    assert sorted(str(path.relative_to(first / "projects")) for path in found) == sorted(files)


def test_a_session_has_no_parent_and_a_subagent_has_one(tmp_path: Path) -> None:
    session = tmp_path / "s.jsonl"
    assert parent_transcript(session, "s") is None
    assert parent_transcript(tmp_path / "s" / "subagents" / "agent-a.jsonl", "other") == session
    assert parent_transcript(tmp_path / "agent-a.jsonl", "s") == session
    assert parent_transcript(tmp_path / "agent-a.jsonl", "") is None
