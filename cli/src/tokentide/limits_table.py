"""Limits as a table. Pure: an answer in, a rich table out."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

_STYLES: Final = {"green": "green", "yellow": "yellow", "red": "bold red"}


def limits_table(answer: dict[str, Any]) -> Table:
    """Return a table with one row for each limit."""
    table = Table(title="limits", title_justify="left")
    for name in ("provider", "account", "limit", "model"):
        table.add_column(name, overflow="fold")
    for name in ("used", "level", "resets in", "told"):
        table.add_column(name, justify="right", no_wrap=True)
    as_of = datetime.fromisoformat(answer["as_of"])
    for item in answer["items"]:
        level = str(item["level"])
        used = item["utilization"]
        table.add_row(
            *(escape(str(item[name])) for name in ("provider", "account", "kind", "model")),
            "" if used is None else f"{Decimal(used) * 100:.0f} %",
            f"[{_STYLES[level]}]{level}[/]" if level in _STYLES else level,
            _resets_in(item["resets_at"], as_of),
            f"{span(timedelta(seconds=item['age_s']))} ago",
        )
    return table


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units."""
    minutes, seconds = divmod(max(0, round(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _resets_in(text: str | None, as_of: datetime) -> str:
    if text is None:
        return ""
    left = datetime.fromisoformat(text) - as_of
    return span(left) if left > timedelta(0) else "over"
