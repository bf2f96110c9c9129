"""Writes that go out together, when all that has come by now is read.

To write wakes whoever waits at the other end: between two reads that costs more than after the last.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Writer(Protocol):
    """A connection that has something to write."""

    def write_now(self) -> None:
        """Write it, unless that has been done meanwhile. Never raises."""


class Outgoing:
    """The connections of one event loop that have something to write."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Writer] = []

    def soon(self, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        """Have it written before the event loop looks for more to read."""
        if not self._waiting:
            loop.call_soon(self._write)
        self._waiting.append(writer)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for writer in waiting:
            writer.write_now()
