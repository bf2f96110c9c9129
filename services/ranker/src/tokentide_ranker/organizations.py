"""Which organisations there are to rank, in which time zone, and what is missing from their rankings."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from tokentide_common.accounts import organization_time_zone
from tokentide_common.database import Engine
from tokentide_common.errors import NotFound
from tokentide_common.store import Store, rows
from tokentide_common.time_zones import time_zone
from tokentide_ranker.periods import Period, containing, touched

_ORGANIZATIONS: Final = "SELECT DISTINCT org_id FROM usage_day"
_RANKED: Final = (
    "SELECT DISTINCT period, period_start, time_zone FROM rankings WHERE org_id = {org_id:String}"
)
_DAYS: Final = "SELECT DISTINCT day FROM usage_day WHERE org_id = {org_id:String}"


async def organizations(store: Store) -> list[str]:
    """Return every organisation that has calls. Raises `Unavailable`."""
    return [row["org_id"] for row in await rows(store, _ORGANIZATIONS)]


async def zone_of(engine: Engine, org_id: str) -> ZoneInfo:
    """Return an organisation's time zone; raises `Unavailable`.

    UTC for an organisation, or a zone, that is not known here: the others are ranked all the same.
    """
    try:
        return time_zone(await asyncio.to_thread(organization_time_zone, engine, org_id))
    except (NotFound, ValueError):
        return ZoneInfo("UTC")


async def due(store: Store, org_id: str, zone: ZoneInfo, now: datetime) -> set[Period]:
    """Return what a ranker that has just become the active one must rank, without any announcement.

    The current periods; and everything, where nothing was ranked yet or the organisation's zone has changed.
    Raises `Unavailable`.
    """
    periods = containing(now.astimezone(zone).date())
    ranked = await rows(store, _RANKED, {"org_id": org_id})
    if {row["time_zone"] for row in ranked} != {zone.key}:
        days = [date.fromisoformat(row["day"]) for row in await rows(store, _DAYS, {"org_id": org_id})]
        periods |= touched(days, zone)
        periods |= {Period(row["period"], date.fromisoformat(row["period_start"])) for row in ranked}
    return periods
