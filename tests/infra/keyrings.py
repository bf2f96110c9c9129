"""Keyrings of the kinds that systems have: one that keeps, one that forgets, one that breaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Keeping(KeyringBackend):
    """Keeps secrets in memory."""

    priority = 5  # type: ignore[assignment]  # keyring's own way to say it

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringLocked
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Forgetting(Keeping):
    """Says yes and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None: ...


class Broken(Keeping):
    """Cannot even be looked at."""

    @property
    def backends(self) -> list[KeyringBackend]:
        raise RuntimeError("no session bus")


@contextlib.contextmanager
def keyring_in_use(backend: KeyringBackend) -> Iterator[None]:
    """Let this process use a keyring."""
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield
    finally:
        keyring.set_keyring(before)
