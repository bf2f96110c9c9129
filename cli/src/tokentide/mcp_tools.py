"""What models may ask: each a question to the query API, with its answer made small enough for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from tokentide.connection import Connection
from tokentide.periods import period_parameters
from tokentide.usage_queries import UsageQueries

_ROWS: Final = 20
_MOST_BYTES: Final = 20_000
# Without it a measure is zero and a list empty. Null stays: what is unknown is not zero.
_SILENT: Final[tuple[object, ...]] = ("", 0, "0", [], {})
Answer = dict[str, Any]


class Tools:
    """The tools; each method is one, and its text says what it is for. The key decides what is seen.

    `connection` is asked at each question: over HTTP every request brings a key of its own.
    """

    def __init__(self, connection: Callable[[], Connection], zone: str) -> None:
        self._connection = connection
        self._zone = zone

    def all(self) -> Sequence[Callable[..., Answer]]:
        """Return every tool."""
        return (
            *(self.usage_summary, self.daily_usage, self.weekly_usage, self.active_blocks, self.limits),
            *(self.machines, self.projects, self.compare, self.plan_savings),
            *(self.coverage, self.list_reports, self.report),
        )

    def usage_summary(self, period: str = "today") -> Answer:
        """Calls, tokens and cost of a period: today, 7d, month, or days like 2026-11-01..2026-11-22."""
        return small(self._over(period).summary())

    def daily_usage(self, period: str = "7d") -> Answer:
        """Calls, tokens and cost of each day of a period."""
        return small(_points(self._over(period).buckets("day")))

    def weekly_usage(self, period: str = "60d") -> Answer:
        """Calls, tokens and cost of each week of a period; weeks begin on Monday."""
        return small(_points(self._over(period).buckets("week")))

    def active_blocks(self) -> Answer:
        """Each account's active 5-hour block: what is used, how fast, where that leads, when it ends."""
        accounts = self._over("today").blocks()["accounts"]
        return small({"accounts": [{k: a[k] for k in ("account", "active", "week")} for a in accounts]})

    def limits(self) -> Answer:
        """How full the rate limits and windows of providers' accounts are, by the providers' own word."""
        return small(UsageQueries(self._connection(), {}).limits())

    def machines(self, period: str = "7d") -> Answer:
        """Usage of each machine in a period, the most expensive first."""
        return small(self._over(period).breakdown("machine_id"))

    def projects(self, period: str = "7d") -> Answer:
        """Usage of each project in a period, the most expensive first."""
        return small(self._over(period).breakdown("project"))

    def compare(self, period: str = "7d", by: str = "model") -> Answer:
        """A period against the one before it, by model, project, user_id, team or another dimension."""
        return small(self._over(period).ask("compare", by=by))

    def plan_savings(self, period: str = "month") -> Answer:
        """What each person's plan cost, what the same use costs at list prices, and what was saved."""
        return small(self._over(period).report("plan-savings", ()))

    def coverage(self, period: str = "7d") -> Answer:
        """Which sources (log, telemetry, proxy) saw the calls of each day, and what they lack."""
        return small(self._over(period).coverage_days())

    def list_reports(self) -> Answer:
        """The named reports of the server, such as plan-savings, pace, anomalies, cache: for `report`."""
        items = UsageQueries(self._connection(), {}).reports()["items"]
        return {"reports": [{"name": item["name"], "title": item["title"]} for item in items]}

    def report(self, name: str, period: str = "30d") -> Answer:
        """A named report over a period; `list_reports` names them."""
        return small(self._over(period).report(name, ()))

    def _over(self, period: str) -> UsageQueries:
        return UsageQueries(self._connection(), period_parameters(period, self._zone))


def small(answer: Answer) -> Answer:
    """Return an answer without what says nothing, lists cut; further where it is still large. Pure."""
    rows = _ROWS
    while True:
        cut = {name: _without_silence(each, rows) for name, each in _spoken(answer, rows).items()}
        if rows == 1 or len(msgspec.json.encode(cut)) <= _MOST_BYTES:
            return cut
        rows //= 2


def _spoken(said: Answer, rows: int) -> Answer:
    kept = {name: each for name, each in said.items() if each not in _SILENT}
    longer = {name: len(each) - rows for name, each in kept.items() if isinstance(each, list)}
    return {**kept, **{f"{name}_left_out": more for name, more in longer.items() if more > 0}}


def _without_silence(value: object, rows: int) -> object:
    if isinstance(value, dict):
        return {name: _without_silence(each, rows) for name, each in _spoken(value, rows).items()}
    if isinstance(value, list):
        return [_without_silence(each, rows) for each in value[:rows]]
    return value


def _points(timeseries: Answer) -> Answer:
    """Return the buckets that have calls, the newest first: of many, those are kept."""
    points = [point for series in timeseries["series"] for point in series["points"] if point["calls"]]
    return {"tz": timeseries["tz"], "points": points[::-1]}
