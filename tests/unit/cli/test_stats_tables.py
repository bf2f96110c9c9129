"""Tables of measures, on terminals of any width."""

from __future__ import annotations

import io

from rich.console import Console

from tokentide.stats_tables import measures_table


def test_a_narrow_terminal_cuts_no_number() -> None:
    measures = {"calls": 5, "cache_read_tokens": 598_798_123, "output_tokens": 4, "cost_usd": "12345.6789"}
    shown = io.StringIO()
    table = measures_table("week", "model", [("claude-sonnet-5-5", measures)])
    Console(width=60, file=shown, color_system=None).print(table)
    assert "$12,345.68" in shown.getvalue()
    assert "…" not in shown.getvalue()
