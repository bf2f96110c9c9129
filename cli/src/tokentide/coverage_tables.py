"""Coverage of the query API as tables. Pure: answers in, rich tables out."""

from __future__ import annotations

from typing import Any, Final

from rich.markup import escape
from rich.table import Table

Item = dict[str, Any]

# The names of the sources as people know them.
_SOURCES: Final = (("log", "cli"), ("telemetry", "otlp"), ("proxy", "proxy"), ("API", "api"))
_LACKS: Final = (("log lacks", "calls_log_lacks"), ("telemetry lacks", "calls_telemetry_lacks"))
_KINDS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


def sessions_table(title: str, answer: Item) -> Table:
    """Return a table with one row for each session."""
    table = _table(title, "session")
    table.add_column("the client's own totals", overflow="fold")
    table.add_column("to know", overflow="fold")
    for item in answer.get("items", []):
        said = [statement(one) for one in item.get("reconciliation", [])]
        session = escape(item.get("session_id", ""))
        table.add_row(session, *_counts(item), escape("\n".join(said)), "\n".join(hints(item)))
    return table


def days_table(title: str, answer: Item) -> Table:
    """Return a table with one row for each day that has something, and the total."""
    table = _table(title, "day")
    table.add_column("metrics only", justify="right")
    for day in answer.get("days", []):
        alone = day.get("metrics_only_sessions", 0)
        if day.get("calls") or alone:
            table.add_row(str(day["start"])[:10], *_counts(day), f"{alone:,} sessions" if alone else "")
    table.add_row("total", *_counts(answer.get("total", {})), "")
    return table


def statement(comparison: Item) -> str:
    """Return one of the client's totals in words: whose, by how many tokens it differs, and why."""
    differences = [comparison.get(kind, {}).get("difference") or 0 for kind in _KINDS]
    reason = str(comparison.get("likely_reason", "")).replace("_", " ")
    more = sum(differences)
    by = f" ({more:+,} tokens)" if any(differences) else ""
    return f"{comparison.get('against', '')}: {reason}{by}"


def hints(item: Item) -> list[str]:
    """Return what else is to know of a session."""
    found = []
    if stopped := item.get("stopped_emitting"):
        since = str(stopped["since"])[:16].replace("T", " ")
        found.append(f"no telemetry since {since} UTC, {stopped['calls']:,} calls ago")
    if doubles := sum(len(one["call_ids"]) for one in item.get("possible_doubles", [])):
        found.append(f"{doubles:,} calls may be doubles")
    return found


def _table(title: str, heading: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(heading, overflow="fold")
    for name in ("calls", *(name for name, _ in _SOURCES), *(name for name, _ in _LACKS)):
        table.add_column(name, justify="right")
    return table


def _counts(item: Item) -> list[str]:
    seen_by = item.get("seen_by", {})
    seen = [seen_by.get(source, 0) for _, source in _SOURCES]
    lacks = [item.get(field, 0) for _, field in _LACKS]
    return [f"{item.get('calls', 0):,}", *(f"{n:,}" if n else "–" for n in (*seen, *lacks))]
