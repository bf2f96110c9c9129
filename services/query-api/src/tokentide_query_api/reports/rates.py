"""Reports by the minute: tokens and requests per minute, and the peak minutes beside what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, LEDGER, MINUTES, TOKEN_SUMS, Dimension
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, over

_USER: Final = DIMENSIONS["user_id"]
_MODEL: Final = DIMENSIONS["model"]
_TOKENS: Final = " + ".join(f"z.{name}" for name in TOKEN_SUMS)
_BY: Final = Parameter(
    "by", "Whose minutes are told apart.", ("user_model", "user", "model", "all"), "user_model"
)
_DIMENSIONS: Final[Mapping[str, tuple[Dimension, ...]]] = {
    "user_model": (_USER, _MODEL), "user": (_USER,), "model": (_MODEL,), "all": (),
}  # fmt: skip
Risk = Literal["low", "medium", "high", "critical", "unknown"]


def _per_minute(statement: Statement, scope: Scope, by: Sequence[Dimension]) -> str:
    """Return a SELECT of requests and tokens of each group in each minute that has a call."""
    from_parts = parts((scope.start_ms, scope.end_ms), (*by, *scope.dimensions), tables=(MINUTES, LEDGER))
    keys = ", ".join(f"z.d{i} AS d{i}" for i in range(len(by)))
    sums = statement.sums(from_parts, by, minute=True)
    return over(sums, f"{keys}{', ' if keys else ''}z.t AS t, z.calls AS calls, {_TOKENS} AS tokens", "AS z")


async def _rates(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    by = _DIMENSIONS[ask.arguments.text(_BY)]
    statement = Statement(scope)
    keys = [f"d{i}" for i in range(len(by))]
    facts = [
        "count() AS minutes",
        *(
            f"sum({what}) AS {what}_sum, max({what}) AS {what}_peak,"
            # The nearest rank: a value that was there.
            f" arraySort(groupArray({what}))[toUInt64(ceil(0.95 * count()))] AS {what}_p95"
            for what in ("calls", "tokens")
        ),
    ]
    group = f"GROUP BY {', '.join(keys)}" if keys else "HAVING minutes > 0"
    order = ", ".join(["tokens_peak DESC", *keys])
    limit = ask.arguments.number(TOP)
    sql = over(
        _per_minute(statement, scope, by),
        ", ".join([*keys, *facts]),
        f"{group} ORDER BY {order} LIMIT {limit}",
    )
    return [
        {
            **dict.fromkeys(("user_id", "model")),
            **{d.name: row[f"d{i}"] for i, d in enumerate(by)},
            "active_minutes": row["minutes"],
            "requests": row["calls_sum"],
            "tokens": row["tokens_sum"],
            "requests_per_minute": round(row["calls_sum"] / row["minutes"], 3),
            "requests_per_minute_p95": row["calls_p95"],
            "requests_per_minute_peak": row["calls_peak"],
            "tokens_per_minute": round(row["tokens_sum"] / row["minutes"], 3),
            "tokens_per_minute_p95": row["tokens_p95"],
            "tokens_per_minute_peak": row["tokens_peak"],
        }
        for row in await ask.rows(statement, sql)
    ]


_REQUESTS_LIMIT: Final = Parameter("requests_per_minute", "The limit to judge by; else what providers told.")
_TOKENS_LIMIT: Final = Parameter("tokens_per_minute", "The limit to judge by; else what providers told.")
_MOST_LIMIT: Final = 10**9 - 1


async def _peaks(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    statement = Statement(scope)
    limit = ask.arguments.number(TOP)
    minutes = _per_minute(statement, scope, (_MODEL,))
    # The busiest by either measure: a minute of many small calls and one of few large ones.
    ranked = over(
        minutes,
        "*, row_number() OVER (ORDER BY calls DESC, t, d0) AS by_calls,"
        " row_number() OVER (ORDER BY tokens DESC, t, d0) AS by_tokens",
        "",
    )
    sql = over(
        ranked,
        "d0, t, calls, tokens",
        f"WHERE least(by_calls, by_tokens) <= {limit}"
        f" ORDER BY least(by_calls, by_tokens), t, d0 LIMIT {limit}",
    )
    allowed = await _allowed(ask)
    return [_peak(row, allowed, period) for row in await ask.rows(statement, sql)]


def _peak(row: Mapping[str, Any], allowed: Mapping[tuple[str, str], tuple[int, str]], period: Period) -> Row:
    used = {"requests": row["calls"], "tokens": row["tokens"]}
    found = {
        kind: allowed.get((kind, "")) or allowed.get((kind, row["d0"])) for kind in ("requests", "tokens")
    }
    shares = [used[kind] / limit[0] for kind, limit in found.items() if limit]
    utilization = max(shares, default=None)
    return {
        "minute": datetime.fromtimestamp(row["t"], UTC).astimezone(period.zone).isoformat(),
        "model": row["d0"],
        **used,
        **{f"{kind}_limit": limit[0] if limit else None for kind, limit in found.items()},
        "limit_source": next((limit[1] for limit in found.values() if limit), "unknown"),
        "utilization": None if utilization is None else round(utilization, 6),
        "risk": risk(utilization),
    }


def risk(utilization: float | None) -> Risk:
    """Return how near a minute came to its limit."""
    if utilization is None:
        return "unknown"
    bounds: tuple[tuple[float, Risk], ...] = ((1.0, "critical"), (0.8, "high"), (0.5, "medium"))
    return next((name for bound, name in bounds if utilization >= bound), "low")


async def _allowed(ask: Asking) -> Mapping[tuple[str, str], tuple[int, str]]:
    """Return limit and source by (kind, model): of every model ("") as asked, else as providers told.

    Of several accounts the highest limit counts: which of them a call used is not told apart here.
    """
    given = {"requests": _REQUESTS_LIMIT, "tokens": _TOKENS_LIMIT}
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for fact in await ask.limit_facts():
        if fact.kind in given and fact.limit:
            known = found.get((fact.kind, fact.model), (0, ""))
            found[fact.kind, fact.model] = max(known, (fact.limit, "observed"))
    for kind, parameter in given.items():
        if ask.arguments.one(parameter) is not None:
            found[kind, ""] = (ask.arguments.number(parameter, _MOST_LIMIT), "configured")
    return found


_RATE_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "user_id", "model"),
    *columns(Kind.COUNT, "active_minutes", "requests", "tokens"),
    *columns(Kind.RATIO, "requests_per_minute"),
    *columns(Kind.COUNT, "requests_per_minute_p95", "requests_per_minute_peak"),
    *columns(Kind.RATIO, "tokens_per_minute"),
    *columns(Kind.COUNT, "tokens_per_minute_p95", "tokens_per_minute_peak"),
)
_PEAK_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TIME, "minute"),
    *columns(Kind.TEXT, "model"),
    *columns(Kind.COUNT, "requests", "tokens", "requests_limit", "tokens_limit"),
    *columns(Kind.TEXT, "limit_source"),
    *columns(Kind.RATIO, "utilization"),
    *columns(Kind.TEXT, "risk"),
)
REPORTS: Final = (
    Report(
        "rates",
        "Requests and tokens per minute in the minutes that have any: average, 95th percentile, peak",
        _RATE_COLUMNS,
        _rates,
        (_BY, TOP),
        of_people=True,
    ),
    Report(
        "peaks",
        "The busiest minutes of each model beside its rate limits",
        _PEAK_COLUMNS,
        _peaks,
        (_REQUESTS_LIMIT, _TOKENS_LIMIT, TOP),
    ),
)
