"""Blocks as tables. Pure: an answer in, rich tables out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from tokentide.limits_table import span
from tokentide.stats_tables import cost

Block = dict[str, Any]
_BAR_WIDTH: Final = 20


def active_table(accounts: Sequence[dict[str, Any]], as_of: str) -> Table:
    """Return a row for each account's active block; the bar is how much of its time has passed."""
    table = Table(title="active 5-hour blocks", title_justify="left")
    table.add_column("account", overflow="fold")
    table.add_column("time", width=_BAR_WIDTH)
    for name in ("left", "ends", "tokens", "cost", "pace", "at its end", "week"):
        table.add_column(name, justify="right", overflow="fold")
    now = datetime.fromisoformat(as_of)
    for account in accounts:
        block: Block = account["active"]
        start, end = (datetime.fromisoformat(block[name]) for name in ("start", "end"))
        lasted, length = (now - start).total_seconds(), (end - start).total_seconds()
        table.add_row(
            escape(account["account"]),
            ProgressBar(length, min(max(lasted, 0.0), length), width=_BAR_WIDTH),
            span(end - now),
            f"{end:%H:%M}{' told' if block['pinned'] else ''}",
            f"{block['total_tokens']:,}",
            cost(block),
            _pace(block["burn_rate"]),
            _projected(block["projection"]),
            cost(account["week"]),
        )
    return table


def history_table(account: dict[str, Any]) -> Table:
    """Return every block of an account, and the gaps between them."""
    table = Table(title=escape(account["account"]), title_justify="left")
    table.add_column("block", no_wrap=True)
    for name in ("calls", "tokens", "cost", "pace", "machines", "overlap"):
        table.add_column(name, justify="right", overflow="fold")
    for block in account["blocks"]:
        start, end = (datetime.fromisoformat(block[name]) for name in ("start", "end"))
        if block["is_gap"]:
            table.add_row(f"gap of {span(end - start)}", *[""] * 6, style="dim")
            continue
        marks = (" active" if block["is_active"] else "") + (" told" if block["pinned"] else "")
        table.add_row(
            f"{start:%Y-%m-%d %H:%M}–{end:%H:%M}{marks}",
            f"{block['calls']:,}",
            f"{block['total_tokens']:,}",
            cost(block),
            _pace(block["burn_rate"]),
            str(len(block["machines"])),
            f"{block['overlap_minutes']} min" if block["overlap_minutes"] else "",
        )
    return table


def _pace(rate: dict[str, float] | None) -> str:
    if rate is None:
        return ""
    return f"{rate['tokens_per_minute']:,.0f} a minute, ${rate['cost_usd_per_hour']:,.2f} an hour"


def _projected(ahead: dict[str, Any] | None) -> str:
    return "" if ahead is None else f"{ahead['total_tokens']:,} tokens, {cost(ahead)}"
