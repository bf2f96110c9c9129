"""Limits as tables, one for each account. Pure: an answer in, rich tables out."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

_STYLES: Final = {"green": "green", "yellow": "yellow", "red": "bold red"}


def limits_tables(answer: dict[str, Any]) -> list[Table]:
    """Return a table for each account, with one row for each limit."""
    as_of = datetime.fromisoformat(answer["as_of"])
    accounts = groupby(answer["items"], lambda item: f"{item['provider']} {item['account']}")
    return [_table(account, list(items), as_of) for account, items in accounts]


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


def _table(account: str, items: list[dict[str, Any]], as_of: datetime) -> Table:
    table = Table(title=escape(account), title_justify="left")
    table.add_column("limit", overflow="fold")
    table.add_column("model", overflow="fold")
    for name in ("used", "level", "resets in", "told"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in items:
        level, used = str(item["level"]), item["utilization"]
        table.add_row(
            escape(str(item["kind"])),
            escape(str(item["model"])),
            "" if used is None else f"{Decimal(used) * 100:.0f} %",
            f"[{_STYLES[level]}]{level}[/]" if level in _STYLES else level,
            _resets_in(item["resets_at"], as_of),
            f"{span(timedelta(seconds=item['age_s']))} ago",
        )
    return table


def _resets_in(text: str | None, as_of: datetime) -> str:
    if text is None:
        return ""
    left = datetime.fromisoformat(text) - as_of
    return span(left) if left > timedelta(0) else "over"
