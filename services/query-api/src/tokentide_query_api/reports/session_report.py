"""`sessions`: how long and how intense each session was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tokentide_query_api import sessions
from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import MEASURES, Kind, columns
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.report import TOP, Report, Row

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


async def _sessions(ask: Asking, period: Period) -> Sequence[Row]:
    answer = await sessions.sessions(ask)
    return [_judged(row) for row in answer.rows]


def _judged(row: Row) -> Row:
    """Add how long it lasted, from its first call to its last, and per minute of that; none has no rate."""
    began, ended = (datetime.fromisoformat(row[name]) for name in ("first_call_at", "last_call_at"))
    lasted_s = (ended - began).total_seconds()

    def per(amount: int, unit_s: int) -> float | None:
        return round(amount * unit_s / lasted_s, 3) if lasted_s else None

    return {
        **row,
        "duration_s": round(lasted_s, 3),
        "calls_per_hour": per(row["calls"], _HOUR_S),
        "tokens_per_minute": per(row["total_tokens"], _MINUTE_S),
    }


REPORTS: Final = (
    Report(
        "sessions",
        "The newest sessions: duration, intensity, models, calls, tokens a minute, cost",
        (
            *columns(Kind.TEXT, "session_id"),
            *columns(Kind.TIME, "first_call_at", "last_call_at"),
            *columns(Kind.RATIO, "duration_s", "calls_per_hour", "tokens_per_minute"),
            *columns(Kind.NESTED, "users", "machines", "projects", "clients", "models", "sources"),
            *MEASURES,
        ),
        _sessions,
        (TOP,),
        of_people=True,
    ),
)
