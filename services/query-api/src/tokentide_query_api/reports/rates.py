"""Reports by the minute: tokens and requests per minute, and the peak minutes beside what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, Dimension
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.minute_lists import (
    USER_MODEL,
    Group,
    bounds,
    has_lists,
    minutes_of,
    per_minute,
)
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, over

_USER: Final = DIMENSIONS["user_id"]
_MODEL: Final = DIMENSIONS["model"]
_BY: Final = Parameter(
    "by", "Whose minutes are told apart.", ("user_model", "user", "model", "all"), "user_model"
)
_DIMENSIONS: Final[Mapping[str, tuple[Dimension, ...]]] = {
    "user_model": USER_MODEL, "user": (_USER,), "model": (_MODEL,), "all": (),
}  # fmt: skip
_FURTHER: Final = 40
"""How many times as many groups as are asked for are looked at, before all of them are."""
_MOST_NAMED: Final = 2000
"""So many at most: their names go with the question, of which a server takes a megabyte."""
_FACTS: Final = (
    "length(calls) AS minutes",
    *(
        f"arraySum({what}) AS {what}_sum, arrayMax({what}) AS {what}_peak,"
        # The nearest rank: a value that was there.
        f" arraySort({what})[toUInt64(ceil(0.95 * length({what})))] AS {what}_p95"
        for what in ("calls", "tokens")
    ),
)
Allowed = Mapping[tuple[str, str], int]
"""How much is allowed in a minute, by kind and model; of model "" where none is named."""
Risk = Literal["low", "medium", "high", "critical", "unknown"]


async def _rates(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    by = _DIMENSIONS[ask.arguments.text(_BY)]
    limit = ask.arguments.number(TOP)
    if by == USER_MODEL and has_lists(Statement(scope), by):
        return await _foremost(ask, scope, limit)
    return await _facts(ask, scope, by, limit)


async def _foremost(ask: Asking, scope: Scope, limit: int) -> Sequence[Row]:
    """Return the first users and models: minutes are told apart of those alone that can be among them."""
    statement = Statement(scope)
    most = min(limit * _FURTHER, _MOST_NAMED)
    ranked = await ask.rows(statement, bounds(statement, most + 1))
    likely = sorted((row["likely"] for row in ranked), reverse=True)[:limit]
    # A guess at the last one's peak. Whoever is not among `groups` has no minute that comes up to it.
    least = likely[-1] if len(likely) == limit else 0
    groups = [(row["d0"], row["d1"]) for row in ranked if row["bound"] >= least]
    if not groups:
        return []
    if len(groups) <= most:
        found = await _facts(ask, scope, USER_MODEL, limit, groups)
        # It was too high where corrections took so much back, or where groups are fewer than are asked for.
        if least == 0 or (len(found) == limit and found[-1]["tokens_per_minute_peak"] >= least):
            return found
    return await _facts(ask, scope, USER_MODEL, limit)


async def _facts(
    ask: Asking, scope: Scope, by: Sequence[Dimension], limit: int, among: Sequence[Group] | None = None
) -> Sequence[Row]:
    """Return the first groups by their greatest minute, of all or of those that are told."""
    statement = Statement(scope)
    keys = [f"d{i}" for i in range(len(by))]
    order = ", ".join(["arrayMax(tokens) DESC", *keys])
    busiest = over(
        minutes_of(statement, by, among),
        ", ".join([*keys, "calls", "tokens"]),
        f"WHERE notEmpty(calls) ORDER BY {order} LIMIT {limit}",
    )
    sql = over(busiest, ", ".join([*keys, *_FACTS]), f"ORDER BY {order}")
    return [_rate(row, by) for row in await ask.rows(statement, sql)]


def _rate(row: Mapping[str, Any], by: Sequence[Dimension]) -> Row:
    return {
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


_REQUESTS_LIMIT: Final = Parameter("requests_per_minute", "The limit to judge by; else what providers told.")
_TOKENS_LIMIT: Final = Parameter("tokens_per_minute", "The limit to judge by; else what providers told.")
_LIMITS: Final = {"requests": _REQUESTS_LIMIT, "tokens": _TOKENS_LIMIT}
_MOST_LIMIT: Final = 10**9 - 1


async def _peaks(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    statement = Statement(scope)
    limit = ask.arguments.number(TOP)
    minutes = per_minute(statement, (_MODEL,))
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
