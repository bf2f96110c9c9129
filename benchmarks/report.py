"""What a benchmark says: one line per measured figure, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec


class Line(msgspec.Struct, omit_defaults=True):
    """A figure, its goal where there is one, and what it was measured with."""

    benchmark: str
    what: str
    value: float
    unit: str = "ratio"
    goal: float | None = None
    at_most: bool = False
    """The goal is an upper bound."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def show(lines: list[Line], *, as_json: bool) -> None:
    """Print the figures on standard output."""
    if as_json:
        print(msgspec.json.encode([{**msgspec.to_builtins(x), "met": x.met} for x in lines]).decode())
        return
    widths = [max(len(_cells(x)[i]) for x in lines) for i in range(4)]
    for line in lines:
        print("  ".join(c.ljust(w) for c, w in zip(_cells(line), [*widths, 0], strict=True)).rstrip())


def _cells(line: Line) -> list[str]:
    verdict = {None: "", True: "met", False: "MISSED"}[line.met]
    goal = "" if line.goal is None else f"goal {'≤' if line.at_most else '≥'} {line.goal:g} {verdict}"
    unit = "" if line.unit == "ratio" else f" {line.unit}"
    return [line.benchmark, line.what, f"{line.value:.3g}{unit}", goal, line.note]


def note(name: str, measured: dict[str, Any]) -> None:
    """Tell on standard error how far it is."""
    print(f"{name}: {json.dumps(measured)}", file=sys.stderr, flush=True)
