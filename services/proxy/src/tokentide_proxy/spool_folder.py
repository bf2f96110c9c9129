"""Where the files of a spool lie: a private folder for each process, and what the dead left is taken over."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from tokentide_common.private_folder import FolderLock, private_folder

_PLACES: Final = 64


class SpoolFolder:
    """Processes may share the folder: each has a numbered place in it, under a lock that dies with it."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._lock: FolderLock | None = None
        self.own: Path | None = None
        """The place of this process, once it is open."""

    def open(self) -> list[Path]:
        """Take a place and return the files found, oldest first, those of dead processes too.

        Raises `OSError`, and may then be called again.
        """
        private_folder(self._folder)
        own, lock = self._free_place()
        try:
            self._adopt(own)
            found = sorted(own.glob(f"*{self._suffix}"))
        except OSError:
            lock.release()
            raise
        self.own, self._lock = own, lock
        return found

    def new_file(self, stamp: int) -> Path:
        """Return the path of a file that sorts by its stamp and is like no other process's."""
        if self.own is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        private_folder(self.own)  # someone may have tidied up
        return self.own / f"{stamp:020d}-{secrets.token_hex(4)}{self._suffix}"

    def close(self) -> None:
        """Give the place up, with the files in it."""
        lock, self._lock, self.own = self._lock, None, None
        if lock is not None:
            lock.release()

    def _free_place(self) -> tuple[Path, FolderLock]:
        for number in range(_PLACES):
            place = self._folder / f"{number:02d}"
            private_folder(place)
            lock = FolderLock(place)
            if lock.acquire():
                return place, lock
        raise OSError(errno.EBUSY, f"{_PLACES} processes share the folder")

    def _adopt(self, own: Path) -> None:
        for place in sorted(self._folder.iterdir()):
            files = sorted(place.glob(f"*{self._suffix}")) if place != own and place.is_dir() else []
            lock = FolderLock(place)
            if not files or not lock.acquire():
                continue
            try:
                for file in sorted(place.glob(f"*{self._suffix}")):
                    file.rename(own / file.name)
            finally:
                lock.release()
