"""Where the files of a lake lie: what that must be able to do, and a folder, which is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from tokentide.files import replace_file


class Storage(Protocol):
    """Files by names with slashes. Whoever reads meanwhile finds the old file or the new one, never half."""

    def __str__(self) -> str:
        """Return what people call it."""

    def has(self, name: str) -> bool:
        """Tell whether the file is there."""

    def read(self, name: str) -> bytes | None:
        """Return the file, if it is there."""

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place, readable by its owner only where files have owners."""

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Give a file to write to; it takes its place when all of it is there."""

    def remove(self, name: str) -> bool:
        """Remove the file; tell whether it was there."""


class Folder:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def has(self, name: str) -> bool:
        """Tell whether the file is there."""
        return (self._folder / name).exists()

    def read(self, name: str) -> bytes | None:
        """Return the file, if it is there."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place, readable by its owner only."""
        replace_file(self._folder / name, content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Give a file to write to; it takes its place when all of it is there, in one step."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"_{path.name}.part")
        try:
            with unfinished.open("wb") as out:
                yield out
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def remove(self, name: str) -> bool:
        """Remove the file; tell whether it was there."""
        there = self.has(name)
        (self._folder / name).unlink(missing_ok=True)
        return there
