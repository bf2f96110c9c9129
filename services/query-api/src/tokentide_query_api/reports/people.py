"""Reports about people: who used most, each month of each person, and how much of a quota is left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tokentide_common.errors import InvalidRequest
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import DIMENSIONS, METRICS, TOKEN_SUMS
from tokentide_query_api.formats import MEASURES, Column, Kind, columns
from tokentide_query_api.measures import added, measures, metric_value, ratio, usd
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period, midnight, month_start
from tokentide_query_api.reports.grouped import buckets_by, members_by, narrowed, sums_by
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.reports.written_rows import measures_sql, written_rows
from tokentide_query_api.resolution import parts
from tokentide_query_api.row_bounds import MAX_ROWS
from tokentide_query_api.scope import Filter, Scope
from tokentide_query_api.statement import Statement, joined, over

_USER: Final = DIMENSIONS["user_id"]
_EMAIL: Final = DIMENSIONS["user_email"]
_SESSION: Final = DIMENSIONS["session_id"]
_MODEL: Final = DIMENSIONS["model"]
_WHO: Final = columns(Kind.TEXT, "user_id", "user_email")


async def _top_users(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    column = METRICS[ask.arguments.text(p.METRIC)]
    known = scope.narrowed(Filter(_USER, ("",), exclude=True))  # nobody is no user, but has a share
    best = f"ORDER BY {summed(column)} DESC, d0 LIMIT {ask.arguments.number(TOP)}"
    top, all_of_them = await asyncio.gather(
        sums_by(ask, known, (_USER,), order=best), sums_by(ask, scope, ())
    )
    if not top:
        return []
    few = narrowed(scope, _USER, [row["d0"] for row in top])
    days = [int(start.timestamp()) for start in bucket_starts(period, "day")]
    emails, sessions, active = await asyncio.gather(
        emails_of(ask, few), members_by(ask, few, (_USER,), _SESSION), buckets_by(ask, few, _USER, days)
    )
    whole = metric_value(added(all_of_them), column)
    return [
        {
            "rank": rank,
            "user_id": row["d0"],
            "user_email": emails.get(row["d0"], ""),
            "organization": ask.org_id,
            **measures(row),
            "sessions": sessions.get((row["d0"],), 0),
            "active_days": active.get(row["d0"], 0),
            "share": ratio(metric_value(row, column), whole),
        }
        for rank, row in enumerate(top, 1)
    ]


def summed(column: str) -> str:
    """Return a metric of the groups of a statement, as an expression of their sums."""
    return " + ".join(TOKEN_SUMS) if column == "total_tokens" else column


async def emails_of(ask: Asking, scope: Scope) -> Mapping[str, str]:
    """Return the address under which most of each user's calls were made."""
    statement = Statement(scope)
    return {row["d0"]: row["email"] for row in await ask.rows(statement, _emails(statement))}


def _emails(statement: Statement) -> str:
    """Return a SELECT of users and the address under which most of their calls were made."""
    scope = statement.scope
    from_parts = parts((scope.start_ms, scope.end_ms), (_USER, _EMAIL, *scope.dimensions))
    sums = statement.sums(from_parts, (_USER, _EMAIL))
    return over(sums, "d0, argMax(d1, (calls, d1)) AS email", "WHERE d1 != '' GROUP BY d0")


async def _monthly(ask: Asking, period: Period, *, by_model: bool) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    starts = bucket_starts(period, "month")
    seconds = [int(start.timestamp()) for start in starts]
    edges = [scope.start_ms, *(1000 * s for s in seconds[1:]), scope.end_ms]
    by = (_USER, _MODEL) if by_model else (_USER,)
    statement = Statement(scope)
    several = len(starts) > 1  # one month needs no looking up, row by row
    sums = statement.sums(parts(edges, (*by, *scope.dimensions)), by, edges_s=seconds if several else ())
    names = statement.texts([start.astimezone(period.zone).strftime("%Y-%m") for start in starts])
    which = f"indexOf({statement.bind(seconds, 'Array(UInt32)')}, z.t)" if several else "1"
    month = f"{names}[{which}] AS month"
    model = ", z.d1 AS model" if by_model else ""
    select = f"{month}, z.d0 AS user_id, w.email AS user_email{model}, {measures_sql()}"
    order = f"ORDER BY {'z.t, ' if several else ''}z.cost_nano DESC, z.d0{', z.d1' if by_model else ''}"
    return await written_rows(ask, statement, joined(sums, _emails(statement), select, order), MAX_ROWS)


async def _monthly_per_user(ask: Asking, period: Period) -> Sequence[Row]:
    return await _monthly(ask, period, by_model=False)


async def _monthly_detail(ask: Asking, period: Period) -> Sequence[Row]:
    return await _monthly(ask, period, by_model=True)


_QUOTAS: Final = tuple(
    Parameter(f"{span}_{unit}", f"What a user may use in a {span}: {words}; left out: no bound.")
    for span in ("day", "week", "month")
    for unit, words in (("tokens", "tokens"), ("usd", "US dollars"))
)
_UNITS: Final = ("tokens", "usd")
_NANO_IN: Final = {"tokens": 1, "usd": 10**9}
"""How the store counts what a bound is of."""
_SHARES: Final = 10**6
"""A share is told to a millionth."""
_ALERT: Final = Decimal("0.9")


async def _quota(ask: Asking, period: Period) -> Sequence[Row]:
    """Judge the day, week and month of `tz` around the end of the period, or now if that is sooner."""
    bounds = {quota.name: _amount(ask, quota) for quota in _QUOTAS}
    # A period does not hold its end: of one that is over, the last day is the one before.
    last = min(ask.now, period.end - timedelta(milliseconds=1)).astimezone(period.zone)
    today = last.date()
    starts = {
        "day": midnight(today, period.zone),
        "week": midnight(today.fromordinal(today.toordinal() - today.weekday()), period.zone),
        "month": midnight(month_start(today), period.zone),
    }
    end_ms = int(last.astimezone(UTC).timestamp() * 1000) + 1
    judged = {span: start for span, start in starts.items() if any(bounds[f"{span}_{u}"] for u in _UNITS)}
    scopes = [ask.scope(int(start.timestamp() * 1000), end_ms) for start in judged.values()]
    used = await asyncio.gather(*(_used(ask, scope) for scope in scopes))
    most = ask.arguments.number(TOP)
    rows: list[Row] = []
    for (span, start), found in zip(judged.items(), used, strict=True):
        since = start.astimezone(period.zone).isoformat()
        for unit in _UNITS:
            bound = bounds[f"{span}_{unit}"]
            if bound is not None:
                rows += [
                    _judged(one, span, unit, bound, since) for one in _foremost(found, unit, bound, most)
                ]
    rows.sort(key=lambda row: (-row["utilization"], row["user_id"], row["window"], row["unit"]))
    return rows[:most]


async def _used(ask: Asking, scope: Scope) -> list[dict[str, Any]]:
    """Return what each user used: `d0`, `tokens` and `usd`, which is in nano-dollars."""
    statement = Statement(scope)
    sums = statement.sums(parts((scope.start_ms, scope.end_ms), (_USER, *scope.dimensions)), (_USER,))
    select = f"d0, {summed('total_tokens')} AS tokens, cost_nano AS usd"
    return await ask.rows(statement, over(sums, select, "WHERE d0 != ''"))


def _foremost(
    found: Sequence[Mapping[str, Any]], unit: str, bound: Decimal, most: int
) -> list[Mapping[str, Any]]:
    """Return those who can be among the first so many: who used most, and whose share rounds to the same."""
    ranked = sorted((row[unit] for row in found), reverse=True)
    if len(ranked) <= most:
        return list(found)
    rounding = int(bound * _NANO_IN[unit] / _SHARES) + 1
    return [row for row in found if row[unit] >= ranked[most - 1] - rounding]


def _judged(row: Mapping[str, Any], span: str, unit: str, bound: Decimal, since: str) -> Row:
    used = Decimal(row["tokens"]) if unit == "tokens" else Decimal(usd(row["usd"]))
    return {
        "user_id": row["d0"],
        "window": span,
        "since": since,
        "unit": unit,
        "used": f"{used:f}",
        "limit": f"{bound:f}",
        "remaining": f"{max(bound - used, Decimal(0)):f}",
        "utilization": float(round(used / bound, 6)),
        "status": "over" if used > bound else "near" if used >= bound * _ALERT else "within",
    }


def _amount(ask: Asking, quota: Parameter) -> Decimal | None:
    text = ask.arguments.one(quota)
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not 0 < amount < Decimal(10) ** 15 or amount.as_tuple().exponent < -9:  # type: ignore[operator]  # finite
        raise InvalidRequest(
            f"{quota.name} is no amount", code="invalid_parameter", fields={quota.name: "a number above 0"}
        )
    return amount


_TOP_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.COUNT, "rank"),
    *_WHO,
    *columns(Kind.TEXT, "organization"),
    *MEASURES,
    *columns(Kind.COUNT, "sessions", "active_days"),
    *columns(Kind.RATIO, "share"),
)
_QUOTA_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "user_id", "window"),
    *columns(Kind.TIME, "since"),
    *columns(Kind.TEXT, "unit"),
    *columns(Kind.AMOUNT, "used", "limit", "remaining"),
    *columns(Kind.RATIO, "utilization"),
    *columns(Kind.TEXT, "status"),
)
REPORTS: Final = (
    Report(
        "top-users",
        "Who used most: tokens, cost, sessions, active days",
        _TOP_COLUMNS,
        _top_users,
        (p.METRIC, TOP),
        of_people=True,
    ),
    Report(
        "monthly-per-user",
        "Each month of each person",
        (*columns(Kind.TEXT, "month"), *_WHO, *MEASURES),
        _monthly_per_user,
        of_people=True,
    ),
    Report(
        "monthly-per-user-detail",
        "Each month of each person by model",
        (*columns(Kind.TEXT, "month"), *_WHO, *columns(Kind.TEXT, "model"), *MEASURES),
        _monthly_detail,
        of_people=True,
    ),
    Report(
        "quota",
        "People against limits of a day, a week and a month",
        _QUOTA_COLUMNS,
        _quota,
        (*_QUOTAS, TOP),
        of_people=True,
    ),
)
