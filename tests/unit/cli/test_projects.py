"""A project is a folder's name; nothing of the path around it leaves the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.projects import local_project, project_of


@pytest.mark.parametrize(
    ("cwd", "project"),
    [
        ("/home/ada/src/tide", "tide"),
        ("/home/ada/src/tide/", "tide"),
        ("C:\\Users\\ada\\src\\tide", "tide"),
        ("/home/ada/src/tide/.claude/worktrees/brave-fox", "tide"),
        ("/home/ada/src/tide/.claude/worktrees/brave-fox/docs", "tide"),
        ("/home/ada/src/tide/.worktrees/fix", "tide"),
        ("/home/ada", "~"),
        ("/", ""),
        ("", ""),
    ],
)
def test_the_folders_name_is_the_project(cwd: str, project: str) -> None:
    assert project_of(cwd, home="/home/ada") == project


def test_a_git_worktree_belongs_to_its_repository(tmp_path: Path) -> None:
    worktree = tmp_path / "tide-fix"
    worktree.mkdir()
    (worktree / ".git").write_text("gitdir: /home/ada/src/tide/.git/worktrees/tide-fix\n")
    assert local_project(str(worktree)) == "tide"


@pytest.mark.parametrize("cwd", ["", "\0", "/nowhere/at/all/tide"])
def test_a_folder_that_is_not_here_is_named_by_its_path_alone(cwd: str) -> None:
    assert local_project(cwd) == cwd.rpartition("/")[2]


@given(st.text(), st.text(), st.text())
def test_a_path_never_becomes_a_project(cwd: str, home: str, gitdir: str) -> None:
    assert "/" not in project_of(cwd, home=home, gitdir=gitdir)
