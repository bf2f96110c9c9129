"""`plan-savings`: what people's usage would cost at list prices, and what their plans cost instead."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from tokentide_common.accounts_schema import user_plans
from tokentide_common.database import reading_async
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, TOKEN_SUMS
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import usd
from tokentide_query_api.money.plans import visible
from tokentide_query_api.money.savings import Owners, Plan, Share, edges, shares
from tokentide_query_api.periods import Period, midnight
from tokentide_query_api.reports.grouped import sums_by
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.scope import AnyOf, Filter

_USER: Final = DIMENSIONS["user_id"]
_EMAIL: Final = DIMENSIONS["user_email"]
_PROVIDER: Final = DIMENSIONS["provider"]
_BILLED_APART: Final = (
    Filter(_PROVIDER, ("anthropic",)),
    # Fast mode is paid for with usage credits whatever the plan; of other use beyond it no call tells.
    Filter(DIMENSIONS["speed"], ("fast",)),
)
MOST_PLANS: Final = 5000
# The order of the rows: where there are too many, those are left out that would come last.
_ORDER: Final = (user_plans.c.subject, user_plans.c.provider, user_plans.c.valid_from, user_plans.c.plan_id)
_SUMMED: Final = ("calls", "cost_nano", "unpriced_calls", *TOKEN_SUMS)


async def _plan_savings(ask: Asking, period: Period) -> Sequence[Row]:
    """Answer a row for each plan and month; a month that is not over counts up to and with today."""
    first, after = _days(ask, period)
    if first >= after:
        return []
    plans = await _plans(ask, first, after)
    found = [share for plan in plans for share in shares(plan, first, after)]
    used = await _used(ask, period, plans, found, (first, after)) if found else {}
    rows = [_row(share, used.get(share, {})) for share in found]
    # No two are alike in all of these: a user has one plan of a provider on a day.
    rows.sort(key=lambda row: (row["month"], row["user"], row["provider"], row["from_day"]))
    return rows[: ask.arguments.number(TOP)]


def _days(ask: Asking, period: Period) -> tuple[date, date]:
    """Return the local days that the period touches, up to today."""
    end = min(period.end, midnight(ask.now.astimezone(period.zone).date() + timedelta(days=1), period.zone))
    last = (end - timedelta(milliseconds=1)).astimezone(period.zone).date()
    return period.start.astimezone(period.zone).date(), last + timedelta(days=1)


async def _plans(ask: Asking, first: date, after: date) -> list[Plan]:
    held = sa.and_(
        user_plans.c.valid_from < after,
        sa.or_(user_plans.c.valid_until.is_(None), user_plans.c.valid_until > first),
    )
    query = visible(ask.principal).where(held).order_by(*_ORDER).limit(MOST_PLANS)
    names = [field.name for field in msgspec.structs.fields(Plan)]
    async with reading_async(ask.accounts) as connection:
        rows = (await connection.execute(query)).all()
    return [Plan(**{name: row._mapping[name] for name in names}) for row in rows]


async def _used(
    ask: Asking, period: Period, plans: Sequence[Plan], found: Sequence[Share], days: tuple[date, date]
) -> dict[Share, dict[str, int]]:
    """Return what the calls that each share covers used, by whole days of it."""
    first, after = days
    starts = [int(midnight(day, period.zone).timestamp()) for day in edges(plans, first, after)]
    subjects = sorted({plan.subject for plan in plans})
    someones = AnyOf((Filter(_USER, tuple(subjects)), Filter(_EMAIL, tuple(subjects), fold=True)))
    scope = ask.scope(starts[0] * 1000, int(midnight(after, period.zone).timestamp()) * 1000)
    ends = [scope.start_ms, *(1000 * start for start in starts[1:]), scope.end_ms]
    theirs = scope.narrowed(someones)
    asked = [
        sums_by(ask, part, (_USER, _EMAIL, _PROVIDER), edges_ms=ends, edges_s=starts)
        for part in (theirs, theirs.narrowed(*_BILLED_APART))
    ]
    whole, apart = await asyncio.gather(*asked)
    owners = Owners(found)
    used: dict[Share, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for rows, names in ((whole, {name: name for name in _SUMMED}), (apart, {"cost_nano": "credits_nano"})):
        for row in rows:
            day = datetime.fromtimestamp(row["t"], UTC).astimezone(period.zone).date()
            call = {"user_id": row["d0"], "user_email": row["d1"], "provider": row["d2"]}
            share = owners.share_of(call, day)
            if share is not None:
                for name, as_name in names.items():
                    used[share][as_name] += row[name]
    return used


def _row(share: Share, used: dict[str, int]) -> dict[str, Any]:
    cost, credits_nano = used.get("cost_nano", 0), used.get("credits_nano", 0)
    return {
        "month": share.first.strftime("%Y-%m"),
        "user": share.plan.subject,
        "provider": share.plan.provider,
        "plan": share.plan.plan,
        "from_day": share.first.isoformat(),
        "until_day": share.after.isoformat(),
        "days": share.days,
        "calls": used.get("calls", 0),
        "total_tokens": sum(used.get(name, 0) for name in TOKEN_SUMS),
        "unpriced_calls": used.get("unpriced_calls", 0),
        "list_cost_usd": usd(cost),
        "plan_cost_usd": usd(share.price_nano),
        "usage_credits_usd": usd(credits_nano),
        "saving_usd": usd(cost - share.price_nano - credits_nano),
        "list_over_plan": round(cost / share.price_nano, 6) if share.price_nano else None,
    }


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "month", "user", "provider", "plan", "from_day", "until_day"),
    *columns(Kind.COUNT, "days", "calls", "total_tokens", "unpriced_calls"),
    *columns(Kind.USD, "list_cost_usd", "plan_cost_usd", "usage_credits_usd", "saving_usd"),
    *columns(Kind.RATIO, "list_over_plan"),
)
REPORTS: Final = (
    Report(
        "plan-savings",
        "What people use at list prices, beside what their plans cost",
        _COLUMNS,
        _plan_savings,
        (TOP,),
        of_people=True,
    ),
)
