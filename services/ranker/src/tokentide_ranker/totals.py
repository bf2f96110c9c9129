"""The numbers of a period, per scope and entity, summed exactly from the rollups."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from tokentide_common.rankings import METRICS, SCOPES, Metric, Scope
from tokentide_common.store import Store
from tokentide_ranker.periods import Period, span

Totals: TypeAlias = dict[tuple[Scope, Metric], dict[str, int]]

# Whole UTC days come from the daily rollup; what the local period has before and after them from the
# 15-minute rollup. Every offset in use is a multiple of 15 minutes, so that the sum is exact in any zone and
# on the days when its clocks change. One scan answers all scopes.
# An entity is there as long as calls are: one that was paid nothing is ranked, one taken back is not.
_TOTALS: Final = """
SELECT
  multiIf(grouping(user_id) = 0, 'users', grouping(project) = 0, 'projects',
          grouping(machine_id) = 0, 'machines', grouping(model) = 0, 'models', 'teams') AS scope,
  multiIf(scope = 'users', toString(user_id), scope = 'projects', toString(project),
          scope = 'machines', toString(machine_id), scope = 'models', toString(model),
          toString(team)) AS entity,
  sum(cost_nano), sum(tokens), sum(calls)
FROM (
  SELECT user_id, project, machine_id, model, team, cost_nano, calls,
    input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens AS tokens
  FROM usage_day
  WHERE org_id = {org_id:String} AND day >= {first_day:Date} AND day < {after_day:Date}
  UNION ALL
  SELECT user_id, project, machine_id, model, team, cost_nano, calls,
    input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens AS tokens
  FROM usage_15m
  WHERE org_id = {org_id:String} AND (
    (bucket >= toDateTime({head_from:UInt32}, 'UTC') AND bucket < toDateTime({head_to:UInt32}, 'UTC'))
    OR (bucket >= toDateTime({tail_from:UInt32}, 'UTC') AND bucket < toDateTime({tail_to:UInt32}, 'UTC'))
  )
)
GROUP BY GROUPING SETS ((user_id), (project), (machine_id), (model), (team))
HAVING sum(calls) > 0
"""
_decoder = msgspec.json.Decoder(tuple[Scope, str, int, int, int])


async def read_totals(store: Store, org_id: str, period: Period, zone: ZoneInfo) -> Totals:
    """Return what each entity of each scope amounts to in a period. Raises `Unavailable`."""
    raw = await store.read(
        _TOTALS, {"org_id": org_id, **pieces(*span(period, zone))}, fmt="JSONCompactEachRow"
    )
    totals = no_totals()
    for scope, entity, *values in _decoder.decode_lines(raw):
        for metric, value in zip(METRICS, values, strict=True):
            totals[scope, metric][entity] = value
    return totals


def no_totals() -> Totals:
    """Return the totals of a period without calls."""
    return {(scope, metric): {} for scope in SCOPES for metric in METRICS}


def pieces(start: datetime, end: datetime) -> dict[str, object]:
    """Cut a span into whole UTC days, a head before and a tail after them, as query parameters."""
    first_day = _ceil_to_day(start)
    after_day = max(first_day, end.date())
    head_to = min(end, _midnight_like(first_day, start))
    tail_from = max(head_to, _midnight_like(after_day, start))
    return {
        "first_day": first_day.isoformat(),
        "after_day": after_day.isoformat(),
        "head_from": int(start.timestamp()),
        "head_to": int(head_to.timestamp()),
        "tail_from": int(tail_from.timestamp()),
        "tail_to": int(max(tail_from, end).timestamp()),
    }


def _ceil_to_day(instant: datetime) -> date:
    day = instant.date()
    return day if instant == _midnight_like(day, instant) else day + timedelta(days=1)


def _midnight_like(day: date, instant: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=instant.tzinfo)
