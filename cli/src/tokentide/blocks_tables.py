"""Blocks as tables. Pure: an answer in, rich tables out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from tokentide.limits_table import span
from tokentide.stats_tables import cost

Block = dict[str, Any]
_BAR_WIDTH: Final = 40


def active_table(account: dict[str, Any], as_of: str) -> Table:
    """Return what there is to say of an active block; the bar is how much of its time has passed."""
    block: Block = account["active"]
    start, end, now = (datetime.fromisoformat(text) for text in (block["start"], block["end"], as_of))
    lasted, length = (now - start).total_seconds(), (end - start).total_seconds()
    table = Table(title=escape(account["account"]), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = (
        ("time", ProgressBar(length, min(max(lasted, 0.0), length), width=_BAR_WIDTH)),
        ("left", f"{span(end - now)}, until {end:%H:%M}{' (told)' if block['pinned'] else ''}"),
        ("used", f"{block['total_tokens']:,} tokens, {cost(block)}"),
        ("pace", _pace(block["burn_rate"])),
        ("at its end", _projected(block["projection"])),
        ("week", cost(account["week"])),
    )
    for name, value in rows:
        if value:
            table.add_row(name, value)
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
