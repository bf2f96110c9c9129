"""Time zones by their IANA name, and no other file of the system's zones."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

# Files beside the zones, which other programs, and the store, do not know or read otherwise.
_FOLDERS: Final = ("posix", "right")
_FILES: Final = ("Factory", "localtime", "posixrules")


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone. Raises `ValueError` for what is none."""
    if name in _FILES or name.partition("/")[0] in _FOLDERS:
        raise ValueError("no IANA time zone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError("no IANA time zone") from exc
