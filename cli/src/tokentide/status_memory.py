"""What the status line remembers between its runs: what each session has told, and what today cost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from tokentide.files import replace_file
from tokentide.status_line import Status, Window

_FOLDER: Final = "status-line"
_TRY_AGAIN_S: Final = 15.0
_TODAY_FOR_S: Final = 60.0
_SESSIONS_KEPT: Final = 100


class Told(msgspec.Struct, frozen=True):
    """What a session has told the server, and when that was last tried."""

    windows: tuple[Window, ...] = ()
    tried_at: float = 0.0


class Today(msgspec.Struct, frozen=True):
    """What a day has cost, as the server said at a moment."""

    day: str = ""
    cost_usd: Decimal | None = None
    asked_at: float = 0.0


class StatusMemory:
    """Files in the state folder. What cannot be read or written is as if it were not there."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / _FOLDER

    def has_news(self, status: Status) -> bool:
        """Whether this session's windows are others than it told, and it is time to try.

        A session that stands idle repeats old numbers: its word counts once, or it would overrule those of
        sessions that go on.
        """
        told = self._told(status.session)
        return status.windows not in ((), told.windows) and self._may_try(told.tried_at, _TRY_AGAIN_S)

    def tries(self, status: Status) -> None:
        """Remember that the windows are on their way: an unreachable server is not asked at every line."""
        told = msgspec.structs.replace(self._told(status.session), tried_at=time.time())
        self._keep(self._of(status.session), told)

    def told(self, session: str, windows: Sequence[Window]) -> None:
        """Remember that the server has these windows, and forget the oldest sessions."""
        self._keep(self._of(session), Told(tuple(windows), time.time()))
        by_age = sorted(self._folder.glob("session-*.json"), key=_age, reverse=True)
        for path in by_age[_SESSIONS_KEPT:]:
            path.unlink(missing_ok=True)

    def today(self, day: str) -> Decimal | None:
        """Return what this day has cost, if that is known."""
        known = self._today()
        return known.cost_usd if known.day == day else None

    def today_is_old(self, day: str) -> bool:
        """Whether to ask again what this day has cost."""
        known = self._today()
        return known.day != day or self._may_try(known.asked_at, _TODAY_FOR_S)

    def costs(self, day: str, cost_usd: Decimal | None) -> None:
        """Remember what a day has cost; None: not known, but asked for."""
        self._keep(self._folder / "today.json", Today(day, cost_usd, time.time()))

    def _may_try(self, last: float, pause_s: float) -> bool:
        return not 0 <= time.time() - last < pause_s

    def _of(self, session: str) -> Path:
        # A name of ours: an id from outside is no path.
        return self._folder / f"session-{hashlib.sha256(session.encode()).hexdigest()[:24]}.json"

    def _told(self, session: str) -> Told:
        try:
            return msgspec.json.decode(self._of(session).read_bytes(), type=Told)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return Told()

    def _today(self) -> Today:
        try:
            return msgspec.json.decode((self._folder / "today.json").read_bytes(), type=Today)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return Today()

    def _keep(self, path: Path, content: Told | Today) -> None:
        try:
            replace_file(path, msgspec.json.encode(content))
        except OSError:
            return  # a full or read-only disk is no reason for a line to fail


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
