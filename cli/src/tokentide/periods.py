"""The period and time zone of a question, in the query API's own words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_ZONE_FOLDER: Final = "zoneinfo/"


def period_parameters(period: str, zone: str) -> dict[str, str]:
    """Return `from`, `to` and `tz`. `A..B` is from A to B, both included; other words go to the server.

    The server knows them: `today`, `week`, `month`, `year`, `30d`, `2026-11-22` and more.
    """
    start, dots, end = period.partition("..")
    parameters = {"from": start, "to": end} if dots and end else {"from": start}
    return {**parameters, "tz": zone} if zone else parameters


def local_zone() -> str:
    """Return this machine's IANA time zone, "" if unknown: then the organisation's is used."""
    named = os.environ.get("TZ", "").lstrip(":")
    if "/" in named and not named.startswith("/"):
        return named
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return ""
    return target.partition(_ZONE_FOLDER)[2]
