"""A folder that only this user reads and only one process empties."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def private_folder(folder: Path) -> None:
    """Make the folder if it is not there, and let nobody else in. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


class FolderLock:
    """A lock that the system lets go of when the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another process has it. Raises `OSError`."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let go of it, if it is held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
