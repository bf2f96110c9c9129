"""Rankings as they are stored and read: the closed sets of words, the periods, and the reading SQL."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final, Literal, TypeAlias, get_args

PeriodKind: TypeAlias = Literal["day", "week", "month", "year", "all"]
Scope: TypeAlias = Literal["users", "projects", "machines", "models", "teams"]
Metric: TypeAlias = Literal["cost", "tokens", "calls"]

PERIOD_KINDS: Final[tuple[PeriodKind, ...]] = get_args(PeriodKind)
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)

ALL_TIME_START: Final = date(1970, 1, 1)


def period_start(kind: PeriodKind, day: date) -> date:
    """Return the first day of the period that a local day lies in; weeks are ISO weeks, from Monday."""
    if kind == "all":
        return ALL_TIME_START
    if kind == "week":
        return day - timedelta(days=day.weekday())
    if kind == "month":
        return day.replace(day=1)
    if kind == "year":
        return day.replace(month=1, day=1)
    return day


def latest_ranking_sql(*, only: bool = False) -> str:
    """Return the SELECT of one ranking's entries, best first.

    Parameters: `org_id`, `period`, `period_start` (the organisation's local date), `scope`, `metric`,
    `after` (entries to skip), `limit` and, with `only`, `only`: the entities whose entries they are.
    No row: nothing was used in that period.
    Money is nano-USD; `movement` is how many places up since the previous period, NULL when absent there.
    """
    # FINAL keeps the highest version, and with it the highest fence: a stale ranker's rows never show.
    some = "AND has({only:Array(String)}, entry.entity)" if only else ""
    return f"""
SELECT
  entry.entity AS entity, entry.value AS value, entry.rank AS rank, entry.previous_rank AS previous_rank,
  toInt64(entry.previous_rank) - toInt64(entry.rank) AS movement,
  entry.percentile AS percentile, entry.share AS share,
  total, time_zone, computed_at, bitShiftRight(version, 32) AS fence
FROM rankings FINAL
ARRAY JOIN entries AS entry, arrayEnumerate(entries.entity) AS position
PREWHERE org_id = {{org_id:String}} AND period = {{period:String}} AND period_start = {{period_start:Date}}
  AND scope = {{scope:String}} AND metric = {{metric:String}}
WHERE position > {{after:UInt64}} {some}
ORDER BY position
LIMIT {{limit:UInt64}}
"""  # noqa: S608 -- a text of our own; values are parameters
