"""A process that dies at a named point of its work."""

from __future__ import annotations

from collections.abc import Callable


class Crash(Exception):
    """The process dies here."""


def crash_at(point: str) -> Callable[[str], None]:
    """Return a failpoint that lets the process die when it passes `point`."""

    def at(passed: str) -> None:
        if passed == point:
            raise Crash

    return at
