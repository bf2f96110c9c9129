"""What the status line asks of the process that it leaves behind; without what makes a start slow."""

from __future__ import annotations

import msgspec

from tokentide.status_line import Window


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done; it comes on standard input."""

    state_dir: str
    data_dir: str | None
    url: str | None
    key: str | None
    machine: str | None
    day: str
    session: str
    windows: tuple[Window, ...]
    ask_today: bool
