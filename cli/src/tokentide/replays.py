"""Side conversations that replay their parent: `/btw` and compaction copy calls under new request ids.

A replayed line carries the message id of the parent's line and another request id, so by its ids it looks
like a call of its own. It is none: the parent's file has the call. A subagent's real calls have message ids
that the parent's file does not know.
"""

from __future__ import annotations

from pathlib import Path

from tokentide.claude_code import UNREADABLE, LogPlace, read_call
from tokentide.log_files import parent_transcript
from tokentide.log_lines import complete_lines
from tokentide_common.events import UsageEvent


class Replays:
    """Tells replays from calls; each parent's file is read at most once."""

    def __init__(self) -> None:
        self._calls: dict[Path, dict[str, str]] = {}

    def is_replay(self, event: UsageEvent, path: Path) -> bool:
        """Return whether an event of a subagent's file repeats a call of its parent under another id."""
        if not event.message_id:
            return False
        parent = parent_transcript(path, event.session_id)
        if parent is None:
            return False
        if parent not in self._calls:
            self._calls[parent] = _calls_by_message(parent)
        return self._calls[parent].get(event.message_id, event.call_id) != event.call_id


def _calls_by_message(path: Path) -> dict[str, str]:
    """Return the call id for each message id in a session's file; empty if the file is gone."""
    try:
        with path.open("rb", buffering=0) as stream:
            events = [_call(line.content) for line in complete_lines(stream, 0) if line.content]
    except OSError:
        return {}
    return {event.message_id: event.call_id for event in events if event and event.message_id}


def _call(line: bytes) -> UsageEvent | None:
    try:
        return read_call(line, LogPlace())
    except UNREADABLE:
        return None
