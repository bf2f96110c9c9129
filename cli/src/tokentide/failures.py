"""How a command ends when it cannot do what it was asked: a message, a next step, an exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command; docs/reference/cli.md lists them."""

    OK = 0
    FAILED = 1
    """Refused or impossible: the same command will fail again until something is changed."""
    USAGE = 2
    """The command line is not understood."""
    TRY_LATER = 75
    """A server is away or busy (`EX_TEMPFAIL`): the same command can succeed later, nothing is lost."""


class Failure(Exception):
    """What went wrong, in words for the person at the terminal, and what to do next."""

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
