"""Which columns of a report a terminal shows, and its values in few letters. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

SILENT: Final[tuple[object, ...]] = (None, "", 0, "0", [], {}, False)
# Kinds of tokens are what `total_tokens` has together, and the organisation is one's own.
_DETAILS: Final = {
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "web_search_requests", "reported_cost_usd"),
    *("organization", "weekday_number"),
}
_CHOSEN: Final[Mapping[str, str]] = {
    "cache": "by key calls cache_hit_ratio saved_by_reads_usd paid_for_writes_usd net_saved_usd",
    "cache-losses": "session_id cache_hit_ratio losses lost_tokens cost_usd worst_at",
    "cost-attribution": "hour user_id model token_type cost_usd running_cost_usd",
    "efficiency": "by key cost_usd commits pull_requests cost_per_commit_usd cost_per_1000_lines_usd",
    "pace": "by key metric daily_average trend month_so_far month_projected",
    "peaks": "minute model requests tokens utilization risk",
    "plan-savings": "month user plan list_cost_usd plan_cost_usd usage_credits_usd saving_usd",
    "rates": "user_id model requests_per_minute_p95 requests_per_minute_peak tokens_per_minute_p95"
    " tokens_per_minute_peak",
    "sessions": "session_id first_call_at models calls total_tokens cost_usd",
    "unpriced": "provider model unpriced_calls total_tokens would_cost_usd",
}
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}")
_LONGEST_ID: Final = 16


def columns_shown(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, wide: bool) -> list[str]:
    """Return the columns that say anything in any row; unless `wide` of these the ones that matter most."""
    names = [name for name in report["columns"] if any(row.get(name) not in SILENT for row in rows)]
    if wide:
        return names
    chosen = _CHOSEN.get(report["name"])
    if chosen is not None:
        return [name for name in chosen.split() if name in names]
    named = "user_email" in names and all(row.get("user_email") for row in rows)
    without = _DETAILS | ({"user_id"} if named else set())
    return [name for name in names if name not in without] or names


def shortened(name: str, text: str) -> str:
    """Return a time without year, seconds and offset, the beginning of a long id, other texts as they are."""
    if _TIME.match(text):
        return text[5:16].replace("T", " ")
    if name.endswith("_id") and len(text) > _LONGEST_ID:
        return f"{text[: _LONGEST_ID - 4]}…"
    return text
