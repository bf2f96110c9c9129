"""What pricing history anew changes, as a table. Pure: pages of the query API in, a rich table out."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

_COUNTS: Final = ("calls", "changed", "unpriced_before", "unpriced_after")
_AMOUNTS: Final = ("old_cost_usd", "new_cost_usd", "difference_usd")


def added_up(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of all pages, by provider and model, the largest difference first; exact."""
    models: dict[tuple[str, str], dict[str, Any]] = {}
    for said in (model for page in pages for model in page["models"]):
        key = (said["provider"], said["model"])
        zero = {**dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_AMOUNTS, Decimal(0))}
        total = models.setdefault(key, zero)
        for name in _COUNTS:
            total[name] += said[name]
        for name in _AMOUNTS:
            total[name] += Decimal(said[name])
    order = sorted(models, key=lambda key: (-abs(models[key]["difference_usd"]), key))
    return {
        "price_version": pages[0]["price_version"],
        "dry_run": pages[0]["dry_run"],
        "calls": sum(page["calls"] for page in pages),
        "changed": sum(page["changed"] for page in pages),
        "difference_usd": _text(sum((m["difference_usd"] for m in models.values()), Decimal(0))),
        "models": [
            {
                "provider": key[0],
                "model": key[1],
                **models[key],
                **{n: _text(models[key][n]) for n in _AMOUNTS},
            }
            for key in order
        ],
    }


def reprice_table(told: dict[str, Any]) -> Table:
    """Return a row for each model that changes."""
    table = Table(title=escape(f"by {told['price_version']}"), title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("calls", "changed", "unpriced", "old cost", "new cost", "difference"):
        table.add_column(name, justify="right", overflow="fold")
    for model in told["models"]:
        if not model["changed"]:
            continue
        unpriced = f"{model['unpriced_before']:,} → {model['unpriced_after']:,}"
        counts = (f"{model['calls']:,}", f"{model['changed']:,}", unpriced)
        name = f"{model['provider']}/{model['model']}" if model["provider"] else model["model"]
        table.add_row(escape(name), *counts, *(f"${model[n]}" for n in _AMOUNTS))
    table.caption = f"{told['changed']:,} of {told['calls']:,} calls change, by ${told['difference_usd']}"
    return table


def _text(amount: Decimal) -> str:
    return f"{amount:f}".rstrip("0").rstrip(".") if "." in f"{amount:f}" else f"{amount:f}"
