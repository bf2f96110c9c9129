"""The consumers of all topics as one: ready when all are, alive while all are, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol


class Member(Protocol):
    """A consumer of one topic."""

    def alive(self) -> bool:
        """Tell whether its loop turns."""

    def ready(self) -> bool:
        """Tell whether it can do its work."""

    def stop(self) -> None:
        """Ask the loop to end."""

    async def run(self) -> None:
        """Consume until `stop` is asked for."""


class Consumers:
    """One consumer for each kind of record."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def alive(self) -> bool:
        """Tell whether every loop turns."""
        return all(consumer.alive() for consumer in self._members)

    def ready(self) -> bool:
        """Tell whether every consumer owns partitions, none of them stopped."""
        return all(consumer.ready() for consumer in self._members)

    def stop(self) -> None:
        """Ask every loop to end: finish the batch in work, commit, leave the group."""
        for consumer in self._members:
            consumer.stop()

    async def run(self) -> None:
        """Run until all have ended; when one ends, by an error even, the others finish their work and end."""
        tasks = [asyncio.create_task(consumer.run(), name="consumer") for consumer in self._members]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()
