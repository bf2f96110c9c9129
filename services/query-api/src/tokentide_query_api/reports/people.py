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
from tokentide_query_api.dimensions import DIMENSIONS, METRICS
from tokentide_query_api.formats import MEASURES, Column, Kind, columns
from tokentide_query_api.measures import measures, metric_value, ratio, total_tokens, usd
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period, midnight, month_start
from tokentide_query_api.reports.grouped import buckets_by, members_by, narrowed, sums_by
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.row_bounds import MAX_ROWS, few
from tokentide_query_api.scope import Scope

_USER: Final = DIMENSIONS["user_id"]
_EMAIL: Final = DIMENSIONS["user_email"]
_SESSION: Final = DIMENSIONS["session_id"]
_MODEL: Final = DIMENSIONS["model"]
_WHO: Final = columns(Kind.TEXT, "user_id", "user_email")


async def _top_users(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    column = METRICS[ask.arguments.text(p.METRIC)]
    found = await sums_by(ask, scope, (_USER,))
    known = [row for row in found if row["d0"]]  # nobody is no user, but has a share
    known.sort(key=lambda row: (-metric_value(row, column), row["d0"]))
    top = known[: ask.arguments.number(TOP)]
    if not top:
        return []
    few = narrowed(scope, _USER, [row["d0"] for row in top])
    days = [int(start.timestamp()) for start in bucket_starts(period, "day")]
    emails, sessions, active = await asyncio.gather(
        emails_of(ask, few), members_by(ask, few, (_USER,), _SESSION), buckets_by(ask, few, _USER, days)
    )
    whole = sum(metric_value(row, column) for row in found)
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


async def emails_of(ask: Asking, scope: Scope) -> Mapping[str, str]:
    """Return the address under which most of each user's calls were made."""
    best: dict[str, tuple[int, str]] = {}
    for row in await sums_by(ask, scope, (_USER, _EMAIL)):
        if row["d1"]:
            best[row["d0"]] = max(best.get(row["d0"], (0, "")), (row["calls"], row["d1"]))
    return {user: email for user, (_, email) in best.items()}


async def _monthly(ask: Asking, period: Period, *, by_model: bool) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    starts = bucket_starts(period, "month")
    seconds = [int(start.timestamp()) for start in starts]
    edges = [scope.start_ms, *(1000 * s for s in seconds[1:]), scope.end_ms]
    by = (_USER, _MODEL) if by_model else (_USER,)
    asked = sums_by(ask, scope, by, edges_ms=edges, edges_s=seconds, order=f"LIMIT {MAX_ROWS + 1}")
    found = few(await asked, MAX_ROWS)
    emails = await emails_of(ask, scope)
    names = {
        s: start.astimezone(period.zone).strftime("%Y-%m") for s, start in zip(seconds, starts, strict=True)
    }
    found.sort(key=lambda row: (row["t"], -row["cost_nano"], *(row[f"d{i}"] for i in range(len(by)))))
    return [
        {
            "month": names[row["t"]],
            "user_id": row["d0"],
            "user_email": emails.get(row["d0"], ""),
            **({"model": row["d1"]} if by_model else {}),
            **measures(row),
        }
        for row in found
    ]


async def _monthly_per_user(ask: Asking, period: Period) -> Sequence[Row]:
    return await _monthly(ask, period, by_model=False)


async def _monthly_detail(ask: Asking, period: Period) -> Sequence[Row]:
    return await _monthly(ask, period, by_model=True)


_QUOTAS: Final = tuple(
    Parameter(f"{span}_{unit}", f"What a user may use in a {span}: {words}; left out: no bound.")
    for span in ("day", "week", "month")
    for unit, words in (("tokens", "tokens"), ("usd", "US dollars"))
)
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
    scopes = [ask.scope(int(start.timestamp() * 1000), end_ms) for start in starts.values()]
    used = await asyncio.gather(*(sums_by(ask, scope, (_USER,)) for scope in scopes))
    rows: list[Row] = []
    for (span, start), found in zip(starts.items(), used, strict=True):
        since = start.astimezone(period.zone).isoformat()
        for unit in ("tokens", "usd"):
            bound = bounds[f"{span}_{unit}"]
            if bound is not None:
                rows += [_judged(row, span, unit, bound, since) for row in found if row["d0"]]
    rows.sort(key=lambda row: (-row["utilization"], row["user_id"], row["window"], row["unit"]))
    return rows[: ask.arguments.number(TOP)]


def _judged(row: Mapping[str, Any], span: str, unit: str, bound: Decimal, since: str) -> Row:
    used = Decimal(total_tokens(row)) if unit == "tokens" else Decimal(usd(row["cost_nano"]))
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
