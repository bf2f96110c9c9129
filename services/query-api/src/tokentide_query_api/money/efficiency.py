"""`efficiency`: what a commit, a pull request, a thousand lines and an accepted edit cost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from tokentide_query_api.activity_statement import ActivityStatement
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS, ACTIVITY_TABLES
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, QUARTER_MS, SUMS, Dimension
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import NO_SUMS, total_tokens, usd
from tokentide_query_api.money.daily import at_most_one, key_row
from tokentide_query_api.parameters import Parameter, filters_on
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import Key, key_values, sums_by
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Scope

COMMON: Final = {
    name: DIMENSIONS[name]
    for name in DIMENSIONS
    if name in ACTIVITY_DIMENSIONS and name not in ("model", "source", "query_source")
}
"""What is known of calls and of activity alike: a commit has no model."""
BY: Final = Parameter("by", f"One of {', '.join(COMMON)}; one row of all when left out.", repeated=True)
_METRICS: Final = ("lines_of_code", "commits", "pull_requests", "active_time_s", "edit_decisions")
_KIND: Final = ACTIVITY_DIMENSIONS["kind"]
_DECISION: Final = ACTIVITY_DIMENSIONS["decision"]
_ZERO: Final = Decimal(0)
_HOUR_S: Final = 3600

Done = Mapping[tuple[str, str], Decimal]
"""Activity of one group, by metric and what kind of it."""


async def _efficiency(ask: Asking, period: Period) -> Sequence[Row]:
    by = at_most_one(ask.arguments.dimensions(BY, least=0, known=COMMON))
    # Activity is known by the quarter of an hour, and a quarter belongs to the period that it starts in.
    start_ms, end_ms = (-(-edge // QUARTER_MS) * QUARTER_MS for edge in (period.start_ms, period.end_ms))
    calls, done = await asyncio.gather(
        sums_by(ask, ask.scope(period.start_ms, period.end_ms, COMMON), by),
        _activity(ask, ask.scope(start_ms, end_ms, COMMON), by),
    )
    used: dict[Key, Mapping[str, Any]] = {key_values(row, len(by)): row for row in calls}
    keys = {*used, *done} if by else {()}
    order = sorted(keys, key=lambda key: (-used.get(key, NO_SUMS)["cost_nano"], key))
    return [
        {**key_row(by, key), **_row(used.get(key, NO_SUMS), done.get(key, {}))}
        for key in order[: ask.arguments.number(TOP)]
    ]


async def _activity(ask: Asking, scope: Scope, by: Sequence[Dimension]) -> Mapping[Key, Done]:
    if scope.start_ms >= scope.end_ms:
        return {}
    asked = (*by, _KIND, _DECISION)
    statement = ActivityStatement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), (*asked, *scope.dimensions), tables=ACTIVITY_TABLES)
    groups: dict[Key, dict[tuple[str, str], Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in await ask.rows(statement, statement.values(from_parts, _METRICS, asked)):
        *key, kind, decision = key_values(row, len(asked))
        what = decision if row["metric"] == "edit_decisions" else kind
        groups[tuple(key)][row["metric"], what] += Decimal(row["value"])
    return groups


def _row(sums: Mapping[str, Any], done: Done) -> dict[str, Any]:
    """Return what was done, what it cost, and the one over the other where there is any."""
    cost = Decimal(sums["cost_nano"]).scaleb(-9)

    def of(metric: str, what: str | None = None) -> Decimal:
        return sum((n for (m, kind), n in done.items() if m == metric and what in (None, kind)), _ZERO)

    def per(amount: Decimal) -> str | None:
        return _text(round(cost / amount, 9)) if amount else None

    added, removed = of("lines_of_code", "added"), of("lines_of_code", "removed")
    accepted, rejected = of("edit_decisions", "accept"), of("edit_decisions", "reject")
    decided = accepted + rejected
    commits, requests, active_s = of("commits"), of("pull_requests"), of("active_time_s")
    return {
        "cost_usd": usd(sums["cost_nano"]),
        "calls": sums["calls"],
        "total_tokens": total_tokens({name: sums[name] for name in SUMS}),
        "commits": _text(commits),
        "pull_requests": _text(requests),
        "lines_added": _text(added),
        "lines_removed": _text(removed),
        "edits_accepted": _text(accepted),
        "edits_rejected": _text(rejected),
        "active_time_s": _text(active_s),
        "user_time_s": _text(of("active_time_s", "user")),
        "edit_acceptance_rate": float(round(accepted / decided, 6)) if decided else None,
        "cost_per_commit_usd": per(commits),
        "cost_per_pull_request_usd": per(requests),
        "cost_per_1000_lines_usd": per((added + removed) / 1000),
        "cost_per_accepted_edit_usd": per(accepted),
        "cost_per_active_hour_usd": per(active_s / _HOUR_S),
    }  # fmt: skip


def _text(amount: Decimal) -> str:
    return format(amount.normalize() + 0, "f")


_PER: Final = ("commit", "pull_request", "1000_lines", "accepted_edit", "active_hour")
_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "by", "key"),
    *columns(Kind.USD, "cost_usd"),
    *columns(Kind.COUNT, "calls", "total_tokens"),
    *columns(
        Kind.AMOUNT,
        *("commits", "pull_requests", "lines_added", "lines_removed", "edits_accepted", "edits_rejected"),
        *("active_time_s", "user_time_s"),
    ),
    *columns(Kind.RATIO, "edit_acceptance_rate"),
    *columns(Kind.AMOUNT, *(f"cost_per_{what}_usd" for what in _PER)),
)
REPORTS: Final = (
    Report(
        "efficiency",
        "What a commit, a pull request, a thousand lines, an accepted edit and an hour of work cost",
        _COLUMNS,
        _efficiency,
        (BY, TOP),
        filters=filters_on(COMMON, "calls and activity"),
    ),
)
