"""Keys and machines as tables. Pure: items of the query API in, rich tables out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

KINDS: Final = {"machine": "m", "proxy": "p", "api": "a"}
_KIND_NAMES: Final = {letter: name for name, letter in KINDS.items()}

Item = dict[str, Any]


def keys_table(items: Iterable[Item]) -> Table:
    """Return a table of keys, none of which can be found from it."""
    table = _table("key", "kind", "name", "role", "machine", "made", "last used", "ends")
    for item in items:
        kind = _KIND_NAMES.get(str(item["kind"]), str(item["kind"]))
        texts = (item["key_id"], kind, item["name"], item["role"] or "", item["machine_id"])
        ends = "revoked" if item["revoked_at"] else moment(item["expires_at"]) or "never"
        table.add_row(*_escaped(*texts), moment(item["created_at"]), moment(item["last_used_at"]), ends)
    return table


def machines_table(items: Iterable[Item]) -> Table:
    """Return a table of machines."""
    table = _table("machine", "name", "whose", "version", "first seen", "last seen")
    for item in items:
        texts = (item["machine_id"], item["name"], item["user_id"] or "", item["cli_version"])
        table.add_row(*_escaped(*texts), moment(item["first_seen_at"]), moment(item["last_seen_at"]))
    return table


def moment(text: str | None) -> str:
    """Return a time of the API in this machine's time zone; empty for none."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M") if text else ""


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        # Ids are copied from here: they go on below, and are never cut.
        table.add_column(column, overflow="fold")
    return table


def _escaped(*texts: str) -> list[str]:
    return [escape(str(text)) for text in texts]
