"""Reports by the minute: tokens and requests per minute, and the peak minutes beside what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import (
    DIMENSIONS,
    LEDGER,
    MINUTE_MS,
    MINUTES,
    MODEL_MINUTES,
    TOKEN_SUMS,
    Dimension,
)
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, measure, over

_USER: Final = DIMENSIONS["user_id"]
_MODEL: Final = DIMENSIONS["model"]
_TOKENS: Final = " + ".join(f"z.{name}" for name in TOKEN_SUMS)
_BY: Final = Parameter(
    "by", "Whose minutes are told apart.", ("user_model", "user", "model", "all"), "user_model"
)
_DIMENSIONS: Final[Mapping[str, tuple[Dimension, ...]]] = {
    "user_model": (_USER, _MODEL), "user": (_USER,), "model": (_MODEL,), "all": (),
}  # fmt: skip
_TABLES: Final = (MODEL_MINUTES, MINUTES, LEDGER)
Allowed = Mapping[tuple[str, str], int]
"""How much is allowed in a minute, by kind and model; of model "" where none is named."""
Risk = Literal["low", "medium", "high", "critical", "unknown"]


def _per_minute(statement: Statement, scope: Scope, by: Sequence[Dimension]) -> str:
    """Return a SELECT of requests and tokens of each group in each minute that has a call."""
    from_parts = parts((scope.start_ms, scope.end_ms), (*by, *scope.dimensions), tables=_TABLES)
    keys = ", ".join(f"z.d{i} AS d{i}" for i in range(len(by)))
    sums = statement.sums(from_parts, by, minute=True)
    return over(sums, f"{keys}{', ' if keys else ''}z.t AS t, z.calls AS calls, {_TOKENS} AS tokens", "AS z")


def _minutes_of(statement: Statement, by: Sequence[Dimension]) -> str:
    """Return a SELECT of each group with the requests, `c`, and tokens, `k`, of its minutes that have a call.

    A group's minutes are put together as lists. Users have as many minutes as calls: to tell all of them
    apart takes four times as long. Only where a minute is in a list twice is it added up.
    """
    scope = statement.scope
    keys = [f"d{i}" for i in range(len(by))]
    rows = []
    for part in parts((scope.start_ms, scope.end_ms), (*by, *scope.dimensions), tables=_TABLES):
        named = [f"{statement.column(d)} AS {key}" for d, key in zip(by, keys, strict=True)]
        tokens = " + ".join(f"x.{name}" for name in TOKEN_SUMS)
        if part.table is LEDGER:
            tokens = f"x.sign * ({tokens})"
            minute = f"toUInt32(intDiv(toUnixTimestamp64Milli(x.occurred_at), {MINUTE_MS}) * 60)"
        else:
            minute = "toUnixTimestamp(x.bucket)"
        named += [f"{minute} AS t", measure(part.table, "calls"), f"{tokens} AS tokens"]
        rows.append(statement.of(part, ", ".join(named)))
    lists = "groupArray(y.t) AS t, groupArray(y.calls) AS c, groupArray(y.tokens) AS k"
    group = f"AS y GROUP BY {', '.join(keys)}" if keys else "AS y"
    listed = over(" UNION ALL ".join(rows), ", ".join([*keys, lists]), group)
    once = "if(length(arrayDistinct(t)) = length(t), (t, c, k), arrayReduce('sumMap', [t], [c], [k])) AS told"
    live = "arrayFilter(n -> n > 0, told.2) AS calls, arrayFilter((n, c) -> c > 0, told.3, told.2) AS tokens"
    return over(over(listed, ", ".join([*keys, once]), ""), ", ".join([*keys, live]), "")


async def _rates(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    by = _DIMENSIONS[ask.arguments.text(_BY)]
    statement = Statement(scope)
    keys = [f"d{i}" for i in range(len(by))]
    order = ", ".join(["arrayMax(tokens) DESC", *keys])
    limit = ask.arguments.number(TOP)
    busiest = over(
        _minutes_of(statement, by),
        ", ".join([*keys, "calls", "tokens"]),
        f"WHERE notEmpty(calls) ORDER BY {order} LIMIT {limit}",
    )
    facts = [
        "length(calls) AS minutes",
        *(
            f"arraySum({what}) AS {what}_sum, arrayMax({what}) AS {what}_peak,"
            # The nearest rank: a value that was there.
            f" arraySort({what})[toUInt64(ceil(0.95 * length({what})))] AS {what}_p95"
            for what in ("calls", "tokens")
        ),
    ]
    sql = over(busiest, ", ".join([*keys, *facts]), f"ORDER BY {order}")
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
_LIMITS: Final = {"requests": _REQUESTS_LIMIT, "tokens": _TOKENS_LIMIT}
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
    configured, observed = _configured(ask), await _observed(ask)
    return [_peak(row, configured, observed, period) for row in await ask.rows(statement, sql)]


def _peak(row: Mapping[str, Any], configured: Allowed, observed: Allowed, period: Period) -> Row:
    used = {"requests": row["calls"], "tokens": row["tokens"]}
    limits: dict[str, int | None] = {}
    shares: list[tuple[float, str]] = []
    for kind, amount in used.items():
        given = configured.get((kind, ""))
        # A model's own limit is nearer to the truth than one of which no model was told.
        told = observed.get((kind, row["d0"])) or observed.get((kind, ""))
        limits[kind] = given or told
        if limit := limits[kind]:
            shares.append((amount / limit, "configured" if given else "observed"))
    utilization, source = max(shares, default=(None, "unknown"))
    return {
        "minute": datetime.fromtimestamp(row["t"], UTC).astimezone(period.zone).isoformat(),
        "model": row["d0"],
        **used,
        **{f"{kind}_limit": limit for kind, limit in limits.items()},
        "limit_source": source,
        "utilization": None if utilization is None else round(utilization, 6),
        "risk": risk(utilization),
    }


def risk(utilization: float | None) -> Risk:
    """Return how near a minute came to its limit."""
    if utilization is None:
        return "unknown"
    bounds: tuple[tuple[float, Risk], ...] = ((1.0, "critical"), (0.8, "high"), (0.5, "medium"))
    return next((name for bound, name in bounds if utilization >= bound), "low")


def _configured(ask: Asking) -> Allowed:
    """Return the limits that the caller names: of every model."""
    return {
        (kind, ""): ask.arguments.number(parameter, _MOST_LIMIT)
        for kind, parameter in _LIMITS.items()
        if ask.arguments.one(parameter) is not None
    }


async def _observed(ask: Asking) -> Allowed:
    """Return the limits that answers of providers told; what a client says of one is no word of theirs.

    Of several accounts the highest limit counts: which of them a call used is not told apart here.
    """
    found: dict[tuple[str, str], int] = {}
    for fact in await ask.limit_facts():
        if fact.kind in _LIMITS and fact.limit and fact.source != "cli":
            found[fact.kind, fact.model] = max(found.get((fact.kind, fact.model), 0), fact.limit)
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
