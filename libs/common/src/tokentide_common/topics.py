"""The topics, what travels on them, and their settings."""

from __future__ import annotations

from typing import Final

import msgspec

USAGE: Final = "tokentide.usage"
ACTIVITY: Final = "tokentide.activity"
LIMITS: Final = "tokentide.limits"
RANKINGS: Final = "tokentide.rankings"
ALERTS: Final = "tokentide.alerts"
DEAD_LETTERS: Final = "tokentide.dead-letters"
PERIODS: Final = "tokentide.periods"
VERDICTS: Final = "tokentide.verdicts"
COUNTED: Final = "tokentide.counted"


class Topic(msgspec.Struct, frozen=True):
    """A topic as it is created; the number of partitions is never changed in place.

    A call must always meet the same partition, or two consumers could count it at the same time.
    """

    name: str
    carries: str
    partitions: int
    retention_ms: int


_DAY_MS: Final = 86_400_000

TOPICS: Final = (
    Topic(USAGE, "usage events, keyed by call id", 12, 7 * _DAY_MS),
    Topic(ACTIVITY, "activity facts: sessions, lines of code, commits", 12, 7 * _DAY_MS),
    Topic(LIMITS, "rate-limit facts, keyed by account", 3, 7 * _DAY_MS),
    Topic(RANKINGS, "rankings as they change, keyed by organisation", 3, 7 * _DAY_MS),
    Topic(ALERTS, "alerts of budgets, keyed by organisation", 1, 30 * _DAY_MS),
    Topic(
        DEAD_LETTERS,
        "what could not be read: reason, source, offset and hash, never the content",
        3,
        30 * _DAY_MS,
    ),
    Topic(PERIODS, "days whose numbers changed, keyed by organisation", 1, 7 * _DAY_MS),
    Topic(VERDICTS, "what became of events whose sender waits", 1, _DAY_MS // 24),
    Topic(COUNTED, "rows of calls as they are counted, for live views", 1, _DAY_MS // 24),
)


class PeriodsTouched(msgspec.Struct, frozen=True):
    """A record on PERIODS: the UTC days (ISO dates) of an organisation whose numbers changed."""

    org_id: str
    days: list[str]


class Verdicts(msgspec.Struct, frozen=True):
    """A record on VERDICTS: what became of a waiting batch's events, as (index, verdict)."""

    batch: str
    verdicts: list[tuple[int, str]]
