"""`GET /api/v1/activity`: what was done besides calling a model, summed per metric, dimension and bucket.

`GET /api/v1/activity/metrics-only`: what clients' own metrics say of tokens and cost where no call is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from tokentide_query_api import activity_words as words
from tokentide_query_api.activity_statement import ActivityStatement
from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import DAY_MS, QUARTER_MS, Dimension
from tokentide_query_api.formats import Answer, Column, Kind, columns
from tokentide_query_api.measures import key_of
from tokentide_query_api.periods import Period
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.row_bounds import MAX_ROWS, few_rows
from tokentide_query_api.scope import Scope

_WHO: Final = ("session_id", "user_id", "machine_id")


class _Question(msgspec.Struct, frozen=True):
    """What is asked of activity."""

    period: Period
    scope: Scope
    by: tuple[Dimension, ...]
    bucket: str
    starts: list[datetime]
    """Starts of the buckets; none where there are no buckets."""

    @property
    def starts_s(self) -> list[int]:
        """The starts in seconds."""
        return [int(start.timestamp()) for start in self.starts]

    def parts(self, more: Sequence[Dimension] = ()) -> tuple[Part, ...]:
        """Return which table answers for which part of the period; none of an empty one."""
        if self.scope.start_ms >= self.scope.end_ms:
            return ()
        edges = [self.scope.start_ms, *(1000 * s for s in self.starts_s[1:]), self.scope.end_ms]
        needed = (*self.by, *self.scope.dimensions, *more)
        return parts(edges, needed, tables=words.ACTIVITY_TABLES)


async def activity(ask: Asking) -> Answer:
    """Answer the sums of activity."""
    question = _question(ask)
    metrics = ask.arguments.several(words.METRIC) or words.ACTIVITY_METRICS
    statement = ActivityStatement(question.scope)
    found: list[dict[str, Any]] = []
    if from_parts := question.parts():
        sql = statement.values(from_parts, metrics, question.by, edges_s=question.starts_s)
        found = await _rows(ask, statement, sql)
    return _answer(question, found, {})


async def activity_metrics_only(ask: Asking) -> Answer:
    """Answer the clients' own tokens and cost of what has no calls: never on top of calls."""
    question = _question(ask)
    scope = question.scope
    days = (scope.start_ms // DAY_MS * DAY_MS, -(-scope.end_ms // DAY_MS) * DAY_MS)
    found: list[dict[str, Any]] = []
    sessions = 0
    if from_parts := question.parts([words.ACTIVITY_DIMENSIONS[name] for name in _WHO]):
        statement, counting = ActivityStatement(scope), ActivityStatement(scope)
        where = statement.without_calls(days)
        sql = statement.values(
            from_parts, words.CLIENT_METRICS, question.by, edges_s=question.starts_s, where=where
        )
        found = await _rows(ask, statement, sql)
        sql = counting.sessions(from_parts, words.CLIENT_METRICS, counting.without_calls(days))
        sessions = (await ask.rows(counting, sql))[0]["sessions"]
    return _answer(question, found, {"basis": "client_metrics", "sessions": sessions})


def _question(ask: Asking) -> _Question:
    period = ask.period()
    bucket = ask.arguments.one(words.BUCKET) or ""
    starts = bucket_starts(period, bucket) if bucket else []
    # Activity is known by the quarter of an hour, and a quarter belongs to the period that it starts in.
    start_ms, end_ms = (-(-edge // QUARTER_MS) * QUARTER_MS for edge in (period.start_ms, period.end_ms))
    scope = ask.scope(start_ms, end_ms, words.ACTIVITY_DIMENSIONS)
    return _Question(
        period,
        scope,
        ask.arguments.dimensions(words.BY, least=0, known=words.ACTIVITY_DIMENSIONS),
        bucket,
        starts,
    )


async def _rows(ask: Asking, statement: ActivityStatement, sql: str) -> list[dict[str, Any]]:
    how = "filter, shorten the period or widen the bucket"
    return await few_rows(ask, statement, sql, MAX_ROWS, how)


def _answer(question: _Question, found: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> Answer:
    zone = question.period.zone
    labels = {int(start.timestamp()): start.astimezone(zone).isoformat() for start in question.starts}
    rows = [
        {
            "metric": row["metric"],
            "key": key_of(question.by, row),
            "start": labels.get(row.get("t", -1)),
            "value": _amount(row["value"]),
        }
        for row in sorted(found, key=lambda row: _place(question, row))
    ]
    body = {
        "from": question.period.start.astimezone(zone).isoformat(),
        "to": question.period.end.astimezone(zone).isoformat(),
        "tz": zone.key,
        "bucket": question.bucket or None,
        "by": [d.name for d in question.by],
        **more,
        "rows": rows,
    }
    return Answer(body, _columns(question), [{**row["key"], **row} for row in rows])


def _columns(question: _Question) -> tuple[Column, ...]:
    return (
        *columns(Kind.TEXT, "metric", *(d.name for d in question.by)),
        *(columns(Kind.TIME, "start") if question.bucket else ()),
        *columns(Kind.AMOUNT, "value"),
    )


def _place(question: _Question, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what orders the rows: metric, time, the most first."""
    keys = tuple(row[f"d{i}"] for i in range(len(question.by)))
    metric = words.ACTIVITY_METRICS.index(row["metric"])
    return metric, row.get("t", 0), -Decimal(row["value"]), keys


def _amount(text: str) -> str:
    """Return an exact decimal text without an exponent or needless zeros."""
    return format(Decimal(text).normalize() + 0, "f")
