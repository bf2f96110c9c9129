"""What a check found, in words for the person at the terminal. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

State = Literal["ok", "note", "warning", "failed"]
MARKS: Final = {
    "ok": "[green]ok[/]",
    "note": "note",
    "warning": "[yellow]warning[/]",
    "failed": "[red]failed[/]",
}


class Finding(msgspec.Struct, frozen=True):
    """One check: what it looked at, how that is, and what to do next."""

    check: str
    state: State
    says: str
    do: str = ""
