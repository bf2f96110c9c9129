"""Reports as tables. Pure: answers in, rich tables out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tokentide.report_columns import columns_shown, shortened


def reports_table(catalogue: dict[str, Any]) -> Table:
    """Return a table of all reports."""
    table = Table(title="reports", title_justify="left")
    table.add_column("report", no_wrap=True)
    table.add_column("answers", overflow="fold")
    for item in catalogue["items"]:
        table.add_row(escape(item["name"]), escape(item["title"]))
    return table


def report_table(report: dict[str, Any], answer: dict[str, Any], *, wide: bool = False) -> Table:
    """Return a report's rows with the columns that matter; with `wide` all, in full, that say anything."""
    rows: Sequence[dict[str, Any]] = answer["rows"]
    title = f"{report['title']} · {answer['from'][:16]} to {answer['to'][:16]} {answer['tz']}"
    table = Table(
        title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    shown = columns_shown(report, rows, wide=wide)
    for name in shown:
        numeric = any(_is_number(name, row.get(name)) for row in rows)
        # On a narrow terminal a value goes on below: an ellipsis in a number would be a lie.
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = ((name, _cell(name, row.get(name))) for name in shown)
        table.add_row(*(escape(text if wide else shortened(name, text)) for name, text in cells))
    return table


def _is_number(name: str, value: object) -> bool:
    return isinstance(value, int | float) or _is_money(name)


def _is_money(name: str) -> bool:
    return name.endswith("_usd")


def _cell(name: str, value: object) -> str:
    if _is_money(name) and value is not None:
        exact = Decimal(str(value))
        return f"${exact:,.2f}" if exact == 0 or abs(exact) >= 1 else f"${exact:,.4f}"
    if isinstance(value, bool | None):
        return "yes" if value else ""
    if isinstance(value, int | float):
        return _counted(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _counted(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.1f}"
