"""What a command says: results on standard output, everything else on standard error.

Colour, width and `NO_COLOR` are rich's business.
"""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console
from rich.markup import escape

from tokentide.failures import Failure


def results() -> Console:
    """Return the console for results."""
    return Console(soft_wrap=not sys.stdout.isatty())


def notes() -> Console:
    """Return the console for everything that is not a result."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def write_json(value: object) -> None:
    """Write one JSON line as the result."""
    write_lines(msgspec.json.encode(value))


def write_lines(*lines: bytes) -> None:
    """Write lines to standard output as they are."""
    sys.stdout.buffer.writelines(line + b"\n" for line in lines)
    sys.stdout.buffer.flush()


def write_content(content: bytes) -> None:
    """Write what a server sent as it is."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def explain(failure: Failure) -> None:
    """Say what went wrong and what to do next."""
    console = notes()
    console.print(f"[bold red]error:[/] {escape(failure.message)}")
    if failure.hint:
        console.print(f"[bold]next:[/]  {escape(failure.hint)}")
