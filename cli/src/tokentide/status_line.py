"""What Claude Code tells its status line, and the line made of it. Pure; the unreadable is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

import msgspec

_WINDOWS: Final = {"five_hour": ("unified_5h", "5h", 300), "seven_day": ("unified_7d", "7d", 10_080)}
_MOST_PERCENT: Final = 100_000
_LONGEST: Final = timedelta(days=400)
_MAX_TEXT: Final = 60
_SEPARATOR: Final = " · "


class Window(msgspec.Struct, frozen=True):
    """A window of a subscription: how full it is, and when it ends. What a server is told, and no more."""

    kind: str
    utilization: str
    window_minutes: int
    resets_at: datetime | None = None


class Status(msgspec.Struct, frozen=True):
    """What the line shows. `session` tells one session's words from another's, and stays on this machine."""

    session: str = ""
    model: str = ""
    cost_usd: Decimal | None = None
    windows: tuple[Window, ...] = ()


def read_status(raw: bytes, now: datetime) -> Status:
    """Return what is understood of a status line's input, whatever it is."""
    try:
        said = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Status()
    model, cost = _part(said, "model"), _number(_part(said, "cost").get("total_cost_usd"))
    return Status(
        session=_text(_part(said).get("session_id")),
        model=_text(model.get("display_name")) or _text(model.get("id")),
        cost_usd=cost,
        windows=tuple(_windows(_part(said, "rate_limits"), now)),
    )


def status_line(status: Status, today_usd: Decimal | None, zone: tzinfo | None = None) -> str:
    """Return the line; times are those of `zone`, else of this machine."""
    parts = [status.model]
    if status.cost_usd is not None:
        parts.append(f"session ${status.cost_usd:,.2f}")
    if today_usd is not None:
        parts.append(f"today ${today_usd:,.2f}")
    for window in status.windows:
        short = next(short for kind, short, _ in _WINDOWS.values() if kind == window.kind)
        ends = "" if window.resets_at is None else _until(window, zone)
        parts.append(f"{short} {Decimal(window.utilization) * 100:.0f} %{ends}")
    return _SEPARATOR.join(part for part in parts if part) or "tokentide"


def _until(window: Window, zone: tzinfo | None) -> str:
    assert window.resets_at is not None
    local = window.resets_at.astimezone(zone)
    return f" until {local:%H:%M}" if window.window_minutes <= 1440 else f" until {local:%a %H:%M}"


def _windows(limits: Mapping[str, Any], now: datetime) -> list[Window]:
    found = []
    for name, (kind, _, minutes) in _WINDOWS.items():
        said = _part(limits, name)
        used = _number(said.get("used_percentage"))
        if used is not None and used <= _MOST_PERCENT:
            part = (used / 100).normalize()
            found.append(Window(kind, f"{part:.9f}".rstrip("0").rstrip("."), minutes, _reset(said, now)))
    return found


def _reset(said: Mapping[str, Any], now: datetime) -> datetime | None:
    seconds = _number(said.get("resets_at"))
    latest = (now + _LONGEST).timestamp()
    if seconds is None or not (now - _LONGEST).timestamp() < seconds < latest:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)


def _part(said: object, *names: str) -> Mapping[str, Any]:
    for name in names:
        said = said.get(name) if isinstance(said, dict) else None
    return said if isinstance(said, dict) else {}


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Decimal(str(value)) if 0 <= value < 10**12 else None


def _text(value: object) -> str:
    """Return text without what a terminal would obey."""
    return "".join(c for c in value if c.isprintable())[:_MAX_TEXT] if isinstance(value, str) else ""
