"""Which project a session worked on: the name of a folder, never its path, which tells who and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# Where tools put worktrees inside the repository: the folder before is the project.
_WORKTREE_FOLDERS: Final = re.compile(r"^(?P<repository>.+?)/(\.claude/worktrees|\.worktrees)/[^/]+")
# A worktree's `.git` is a file that points into the repository it belongs to.
_GITDIR: Final = re.compile(r"^gitdir: (?P<repository>.+)/\.git/worktrees/[^/]+\s*$")


def project_of(cwd: str, *, home: str = "", gitdir: str = "") -> str:
    """Return the project's name for a working directory: its folder, for a worktree its repository's folder.

    `gitdir` is the text of the directory's `.git`, if that is a file. The home directory itself is `~`:
    its folder's name would be the user's.
    """
    folder = cwd.replace("\\", "/").rstrip("/")
    if folder and folder == home.replace("\\", "/").rstrip("/"):
        return "~"
    found = _GITDIR.match(gitdir.replace("\\", "/")) or _WORKTREE_FOLDERS.match(folder)
    return (found["repository"] if found else folder).rpartition("/")[2]


def local_project(cwd: str) -> str:
    """Return the project's name, with a look at the directory where it still exists on this machine."""
    if not cwd:
        return ""
    try:
        gitdir = (Path(cwd) / ".git").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        gitdir = ""
    return project_of(cwd, home=str(Path.home()), gitdir=gitdir)
