"""`anomalies`: days on which a user, a project or a model used far more or less than on the same weekdays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from tokentide_common.errors import InvalidRequest
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import METRICS, Dimension
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import metric_value
from tokentide_query_api.money.daily import amount, at_most_one, daily, key_row
from tokentide_query_api.money.outliers import WEEKS, Judged, judged
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period, midnight
from tokentide_query_api.reports.grouped import narrowed, sums_by
from tokentide_query_api.reports.report import TOP, Report, Row

MOST_DAYS: Final = 92
MOST_GROUPS: Final = 500
BY: Final = Parameter(
    "by",
    "One dimension, each of whose values is judged; empty: all together.",
    default="model",
    repeated=True,
)
THRESHOLD: Final = Parameter(
    "threshold", "From how large a z, up or down, a day is told, 1 to 100.", default="3.5"
)
HISTORY: Final = Parameter("min_history", f"Same weekdays that must be known, 3 to {WEEKS}.", default="4")
_LEAST_HISTORY: Final = 3


async def _anomalies(ask: Asking, period: Period) -> Sequence[Row]:
    """Judge the whole days of a period, of the groups that used most in it."""
    by = at_most_one(ask.arguments.dimensions(BY, least=0))
    column = METRICS[ask.arguments.text(p.METRIC)]
    threshold, least = _threshold(ask), ask.arguments.number(HISTORY, WEEKS)
    if least < _LEAST_HISTORY:
        raise InvalidRequest(
            "min_history is too little", code="invalid_parameter", fields={HISTORY.name: f"3 to {WEEKS}"}
        )
    days = _whole_days(ask, period)
    if not days:
        return []
    first = midnight(days[0] - timedelta(weeks=WEEKS), period.zone)
    span = Period(first, midnight(days[-1] + timedelta(days=1), period.zone), period.zone)
    scope = ask.scope(span.start_ms, span.end_ms)
    if by:
        scope = narrowed(scope, by[0], await _largest(ask, period, by[0], column))
    found = await daily(ask, scope, span, by, column)
    rows: list[tuple[float, date, Row]] = []
    for key, values in found.values.items():
        floats = {day: float(value) for day, value in values.items()}
        rows += [
            (-abs(one.z), one.day, {**key_row(by, key), **_row(one, period, column)})
            for one in judged(floats, found.days, days, least)
            if abs(one.z) >= threshold
        ]
    rows.sort(key=lambda row: (*row[:2], row[2]["key"]))
    return [row for _, _, row in rows[: ask.arguments.number(TOP)]]


async def _largest(ask: Asking, period: Period, by: Dimension, column: str) -> list[str]:
    """Return the values of a dimension with most of the measure: of the others a day matters to nobody."""
    found = await sums_by(ask, ask.scope(period.start_ms, period.end_ms), (by,))
    found.sort(key=lambda row: (-metric_value(row, column), row["d0"]))
    return [row["d0"] for row in found[:MOST_GROUPS]]


def _whole_days(ask: Asking, period: Period) -> list[date]:
    """Return the local days that lie in the period and are over: today is never whole."""
    end = min(period.end, ask.now.astimezone(UTC))
    if end - period.start > timedelta(days=MOST_DAYS + 1):
        raise InvalidRequest(
            f"{MOST_DAYS} days at most are judged: shorten the period",
            code="too_many_points", fields={"from": f"at most {MOST_DAYS} days before the end"},
        )  # fmt: skip
    day, days = period.start.astimezone(period.zone).date(), []
    while (after := midnight(day + timedelta(days=1), period.zone)) <= end:
        if midnight(day, period.zone) >= period.start:
            days.append(day)
        day = after.astimezone(period.zone).date()
    return days


def _row(one: Judged, period: Period, column: str) -> Row:
    return {
        "day": midnight(one.day, period.zone).astimezone(period.zone).isoformat(),
        "metric": column.replace("_nano", "_usd"),
        "direction": "high" if one.z > 0 else "low",
        "value": amount(one.value, column),
        "median": amount(one.median, column),
        "spread": amount(one.spread, column),
        "z": round(one.z, 3),
        "history_days": one.history,
    }


def _threshold(ask: Asking) -> float:
    try:
        told = Decimal(ask.arguments.text(THRESHOLD))
    except InvalidOperation:
        told = Decimal(0)
    if not (told.is_finite() and 1 <= told <= 100):
        raise InvalidRequest(
            "threshold is out of range", code="invalid_parameter", fields={THRESHOLD.name: "1 to 100"}
        )
    return float(told)


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "by", "key"),
    *columns(Kind.TIME, "day"),
    *columns(Kind.TEXT, "metric", "direction"),
    *columns(Kind.AMOUNT, "value", "median", "spread"),
    *columns(Kind.RATIO, "z"),
    *columns(Kind.COUNT, "history_days"),
)
REPORTS: Final = (
    Report(
        "anomalies",
        "Days far from the same weekdays before them, by user, project, model or anything else",
        _COLUMNS,
        _anomalies,
        (BY, p.METRIC, THRESHOLD, HISTORY, TOP),
    ),
)
