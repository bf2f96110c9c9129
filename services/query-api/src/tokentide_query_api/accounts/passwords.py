"""Passwords as argon2id hashes; every check costs the same, whether there is a hash or not."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tokentide_common.errors import Unavailable

T = TypeVar("T")
LEAST: Final = 10
MOST: Final = 200
"""Characters of a password."""
_AT_ONCE: Final = 4
_WAITING: Final = 100


class Passwords:
    """Hashes and checks in threads, a few at once: a flood of logins fills neither memory nor the loop."""

    def __init__(self, *, time_cost: int = 3, memory_kib: int = 32 * 1024) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        # Nobody's password: made with the first check, of whatever kind that is.
        self._nobodys = ""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def hashed(self, password: str) -> str:
        """Return what is stored of a password. Raises `Unavailable` when too many wait for their turn."""
        return await self._in_turn(partial(self._hasher.hash, _normal(password)))

    async def verified(self, stored: str | None, password: str) -> bool:
        """Tell whether it is the password. Without a stored hash the same work is done, in vain.

        Raises `Unavailable` when too many wait for their turn.
        """
        if not self._nobodys:
            self._nobodys = await self.hashed(secrets.token_urlsafe(32))
        # The guarantee: who is not known, or has no password, costs as much as a wrong password.
        right = await self._in_turn(partial(self._matches, stored or self._nobodys, _normal(password)))
        return right and stored is not None

    def outdated(self, stored: str) -> bool:
        """Tell whether a hash was made at another cost than today's: to be made anew at the next login."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise Unavailable("too many logins at once", code="overloaded")
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    # One and the same password may be typed as different characters on different keyboards.
    return unicodedata.normalize("NFKC", password)
