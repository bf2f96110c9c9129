"""Budgets, plans and comparisons as tables. Pure: answers in, rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

Item = Mapping[str, Any]
_MEASURES: Final = {"cost": "cost_usd", "tokens": "total_tokens", "calls": "calls"}


def budgets_table(items: Iterable[Item]) -> Table:
    """Return a table of budgets with their progress."""
    table = _table("budget", "of", "period", numbers=("amount", "used", "left", "share"), last="runs out")
    for item in items:
        progress, unit = item["progress"], item["unit"]
        of = f"{item['scope']} {item['scope_value']}".strip()
        amounts = (amount(progress[name], unit) for name in ("amount", "used", "left"))
        ends = "stopped" if progress.get("stopped") else progress["runs_out_on"] or ""
        table.add_row(
            escape(item["name"]), escape(of), item["period"], *amounts, f"{progress['share']:.0%}", ends
        )
    return table


def plans_table(items: Iterable[Item]) -> Table:
    """Return a table of plans."""
    table = _table("user", "provider", "plan", "from", "until", numbers=("a month",))
    for item in items:
        texts = (item["user"], item["provider"] or "any", item["plan"], item["valid_from"])
        table.add_row(*map(escape, texts), item["valid_until"] or "", amount(item["monthly_usd"], "usd"))
    return table


def compare_table(answer: Item) -> Table:
    """Return a table of a comparison: its rows, what is left of them, and the whole."""
    metric = answer["metric"]
    unit, column = "usd" if metric == "cost" else "", _MEASURES.get(metric, metric)
    spans = " against ".join(f"{one['from'][:10]} to {one['to'][:10]}" for one in (answer, answer["against"]))
    table = _table(*answer["by"], "change", numbers=("now", "then", "difference", "ratio"))
    table.title = escape(f"{metric} of {spans} {answer['tz']}")

    def add(key: list[str], change: str, row: Item) -> None:
        both = (amount(row[side][column], unit) for side in ("current", "against"))
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(*map(escape, key), change, *both, amount(row["difference"], unit), ratio)

    blank = [""] * (len(answer["by"]) - 1)
    for row in answer["rows"]:
        add([str(value) for value in row["key"].values()], row["change"], row)
    if answer["other"]["groups"]:
        add([f"{answer['other']['groups']} others", *blank], "", answer["other"])
    add(["all", *blank], "", answer["total"])
    return table


def amount(value: object, unit: str) -> str:
    """Return dollars, or a number, as people read it."""
    exact = Decimal(str(value))
    if unit != "usd":
        return f"{exact:,f}"
    sign = "-" if exact < 0 else ""
    return f"{sign}${abs(exact):,.2f}" if exact == 0 or abs(exact) >= 1 else f"{sign}${abs(exact):,.4f}"


def _table(*texts: str, numbers: tuple[str, ...], last: str = "") -> Table:
    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in texts:
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    if last:
        table.add_column(last, overflow="fold")
    return table
