"""All budgets that stop calls at the moment, in memory; from where they are read is the caller's choice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from tokentide_common.every import Every
from tokentide_common.key_directory import Select

# A budget stops while it was last seen used up, and its amount was not raised above that since.
_STOPS: Final = (
    "SELECT b.org_id, b.scope, b.scope_value, b.name, b.period, s.until_s"
    " FROM budget_stops s JOIN budgets b ON b.budget_id = s.budget_id"
    " WHERE b.hard_stop AND s.used >= b.amount"
)


class Stop(NamedTuple):
    """A budget that is used up."""

    name: str
    period: str
    until_s: int
    """The end of its period, in seconds since 1970."""


class LiveStops:
    """What is stopped, by organisation and part of it; looked for anew every `refresh_s` seconds.

    It fails open: with the database away known stops hold to the end of their period, and no new ones begin.
    """

    def __init__(
        self, select: Select, refresh_s: float = 2.0, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._select = select
        self._wall_clock = wall_clock
        self._stops: dict[str, dict[tuple[str, str], Stop]] = {}
        self._freshening = Every(
            "budget-stops",
            self.refresh,
            seconds=refresh_s,
            at_end=False,
            failed="budget_stops_refresh_failed",
        )

    async def start(self) -> None:
        """Read all once if they can be read, then keep them fresh until `stop`."""
        await self._freshening.now()
        self._freshening.start()

    async def stop(self) -> None:
        """Stop refreshing."""
        await self._freshening.stop()

    def stops_any_of(self, org_id: str) -> bool:
        """Return whether anything of an organisation may be stopped: no more than a look into a dict."""
        return org_id in self._stops

    def stop_of(self, org_id: str, parts: Iterable[tuple[str, str]]) -> Stop | None:
        """Return what stops the calls of all these scopes and values: the longest one."""
        of_org, now = self._stops.get(org_id, {}), self._wall_clock()
        found = [of_org[part] for part in parts if part in of_org]
        return max(
            (stop for stop in found if stop.until_s > now), key=lambda stop: stop.until_s, default=None
        )

    def seconds_left(self, stop: Stop) -> int:
        """Return how long a stop lasts yet, 1 at least."""
        return max(1, round(stop.until_s - self._wall_clock()))

    async def refresh(self) -> None:
        """Read what is stopped. Raises `Unavailable`."""
        read: dict[str, dict[tuple[str, str], Stop]] = {}
        for org_id, scope, value, name, period, until_s in await asyncio.to_thread(self._select, _STOPS):
            stop, of_org = Stop(name, period, int(until_s)), read.setdefault(org_id, {})
            known = of_org.get((scope, value))
            if known is None or known.until_s < stop.until_s:
                of_org[scope, value] = stop
        self._stops = read
