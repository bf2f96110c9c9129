"""Where Claude Code keeps its logs: every session file under every configuration folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path


def log_roots(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Return Claude Code's folders: `CLAUDE_CONFIG_DIR` (comma-separated), else the defaults."""
    parts = (part.strip() for part in environ.get("CLAUDE_CONFIG_DIR", "").split(","))
    named = [Path(part).expanduser() for part in parts if part]
    xdg = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return list(dict.fromkeys(named or [xdg / "claude", home / ".claude"]))


def session_files(roots: list[Path]) -> list[Path]:
    """Return the session files below the roots, subagents' included, each once, sorted by path.

    A file reachable by two names (a symbolic link between two roots) is read under the first.
    """
    found: dict[Path, Path] = {}
    for path in sorted(_candidates(roots)):
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _candidates(roots: list[Path]) -> Iterator[Path]:
    for root in roots:
        projects = root if root.name == "projects" else root / "projects"
        yield from (path for path in projects.rglob("*.jsonl") if path.is_file())


@lru_cache(maxsize=64)
def parent_transcript(path: Path, session_id: str) -> Path | None:
    """Return the file of the session that a subagent's file belongs to, `None` for a session's own file.

    Newer versions: `<session>/subagents/**/agent-*.jsonl` beside `<session>.jsonl`; older ones:
    `agent-*.jsonl` in the same folder as `<session>.jsonl`. Asked for each call of a file in turn.
    """
    for folder in path.parents:
        if folder.name == "subagents":
            return folder.parent.with_name(f"{folder.parent.name}.jsonl")
    if path.name.startswith("agent-") and session_id:
        return path.with_name(f"{session_id}.jsonl")
    return None
