"""Organisations, memberships and ended sessions in memory, so that a request is judged without waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from tokentide_common.database import utc_now
from tokentide_common.errors import Unavailable
from tokentide_common.every import Every
from tokentide_common.key_directory import Role, Select
from tokentide_query_api.accounts.access_tokens import LIFETIME
from tokentide_query_api.leaderboard_statement import Shown

Privacy = Literal["open", "pseudonymous", "private"]

_NEWEST: Final = "SELECT revision FROM revisions WHERE name = 'people'"
_ORGANIZATIONS: Final = "SELECT org_id, name, time_zone, privacy FROM organizations WHERE closed_at IS NULL"
_MEMBERS: Final = (
    "SELECT m.org_id, m.user_id, m.role, u.email,"
    " CASE WHEN u.on_leaderboard THEN coalesce(u.handle, '') ELSE '' END"
    " FROM memberships m JOIN users u ON u.user_id = m.user_id"
    " JOIN organizations o ON o.org_id = m.org_id WHERE o.closed_at IS NULL"
)
# The access tokens of a session that ended earlier are over by themselves; the clocks of replicas may differ.
_ENDED: Final = "SELECT session_id FROM sessions WHERE revoked_at > '{since:%Y-%m-%d %H:%M:%S}+00'"
_ENDED_SINCE: Final = 2 * LIFETIME
_PAUSE_S: Final = 0.1


class Organization(msgspec.Struct, frozen=True, gc=False):
    """What a request needs to know of its organisation."""

    name: str
    time_zone: str
    privacy: Privacy


class Member(msgspec.Struct, frozen=True, gc=False):
    """A user in an organisation."""

    role: Role
    email: str
    handle: str = ""
    """Under which the leaderboard shows them; empty: it does not."""


class _Read(msgspec.Struct, gc=False):
    """All that was read at one time."""

    revision: int = -1
    organizations: dict[str, Organization] = {}
    members: dict[tuple[str, str], Member] = {}
    ended: frozenset[str] = frozenset()
    shown: tuple[Shown, ...] = ()


class LivePeople:
    """Who belongs where; looked for anew every `refresh_s` seconds.

    With the database away what is known goes on working for `stale_after_s`; after that every question is
    refused with `Unavailable`, since somebody may have been removed meanwhile.
    """

    def __init__(
        self,
        select: Select,
        refresh_s: float = 2.0,
        *,
        stale_after_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._select = select
        self._now = now
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._known = _Read()
        self._fresh_at: float | None = None
        self._refreshing = asyncio.Lock()
        self._freshening = Every(
            "people-directory", self.refresh, seconds=refresh_s, at_end=False, failed="people_refresh_failed"
        )

    async def start(self) -> None:
        """Read all once, then keep it fresh until `stop`. Raises `Unavailable`."""
        await self.refresh()
        self._freshening.start()

    async def stop(self) -> None:
        """Stop refreshing."""
        await self._freshening.stop()

    def organization(self, org_id: str) -> Organization | None:
        """Return an organisation's facts."""
        self._must_be_fresh()
        return self._known.organizations.get(org_id)

    def member(self, org_id: str, user_id: str) -> Member | None:
        """Return a user's membership of an organisation, None without one."""
        self._must_be_fresh()
        return self._known.members.get((org_id, user_id))

    def on_leaderboard(self) -> Sequence[Shown]:
        """Return who chose to be shown to everybody; the same object until people change."""
        self._must_be_fresh()
        return self._known.shown

    def has_ended(self, session_id: str) -> bool:
        """Tell whether a session was logged out or revoked."""
        self._must_be_fresh()
        return session_id in self._known.ended

    async def look_again(self) -> None:
        """Read what changed before this call, at most ten times a second. Raises `Unavailable`."""
        came_at = self._clock()
        if self._fresh_at is not None and (early_s := self._fresh_at + _PAUSE_S - came_at) > 0:
            await asyncio.sleep(early_s)
        await self.refresh(since=came_at)

    async def refresh(self, *, since: float | None = None) -> None:
        """Read all anew if anything changed. Raises `Unavailable`.

        Called after each change as well, so that who made it sees it at once; of many who wait for a read,
        all are served by the first one that begins after they came.
        """
        since = self._clock() if since is None else since
        async with self._refreshing:
            if self._fresh_at is not None and self._fresh_at > since:
                return
            asked_at = self._clock()
            # With very many people even sorting takes long: nothing of it is done on the loop.
            read = await asyncio.to_thread(_read, self._select, self._known.revision, self._now())
            self._known = read or self._known
            self._fresh_at = asked_at

    def _must_be_fresh(self) -> None:
        if self._fresh_at is None or self._clock() - self._fresh_at > self._stale_after_s:
            raise Unavailable("accounts cannot be checked: their database is away", code="keys_unavailable")


def _read(select: Select, known: int, now: datetime) -> _Read | None:
    # Read first: what changes in between is read once more, never missed.
    newest = max((int(revision) for (revision,) in select(_NEWEST)), default=0)
    if newest == known:
        return None
    members = {(org, user): Member(*facts) for org, user, *facts in select(_MEMBERS)}
    shown = sorted((key, member) for key, member in members.items() if member.handle)
    return _Read(
        newest,
        {org: Organization(*facts) for org, *facts in select(_ORGANIZATIONS)},
        members,
        frozenset(session for (session,) in select(_ENDED.format(since=now - _ENDED_SINCE))),
        tuple(Shown(org, user, member.email, member.handle) for (org, user), member in shown),
    )
