"""The data folder of the embedded system: one system at a time, and what other commands find there."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from tokentide.failures import Failure


class DataFolder:
    """Paths inside the data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = root / "clickhouse"
        self.accounts = root / "accounts.db"
        self.credentials = root / "credentials.json"
        self.addresses = root / "addresses.json"
        self.broker_log = root / "broker.log"
        self.forward_queue = root / "forward-queue"
        self.proxy_spool = root / "proxy-spool"
        self.secret_key = root / "secret.key"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; raises `Failure` while another system runs in it.

        The lock goes with the process, also when it is killed.
        """
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Failure(
                    f"a system is running already in {self.root}",
                    hint="stop it first, or choose another folder with --data-dir",
                ) from None
            yield

    def _lock_file(self) -> BinaryIO:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return (self.root / "lock").open("wb")
        except OSError as exc:
            raise Failure(
                f"cannot keep data in {self.root}: {exc.strerror}",
                hint="choose another folder with --data-dir",
            ) from None

    def write_private(self, path: Path, content: object) -> None:
        """Write JSON readable by this user only, in one step."""
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
