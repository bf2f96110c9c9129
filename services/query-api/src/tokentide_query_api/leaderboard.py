"""`GET /api/v1/leaderboard`: who used most, of all organisations, among those who chose to be shown."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, cast

import msgspec

from tokentide_common.rankings import METRICS, PeriodKind, period_start
from tokentide_common.store import Store, rows
from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.cursors import Cursor, decoded, encoded, question_digest
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.leaderboard_statement import Shown, leaderboard_statement
from tokentide_query_api.measures import usd
from tokentide_query_api.rankings import AT, METRIC, PERIOD, day_asked
from tokentide_query_api.store_wall import WalledStore, WholeFromMs

PARAMETERS: Final = (PERIOD, AT, METRIC, p.LIMIT, p.CURSOR, p.FORMAT)
_FRESH_S: Final = 60.0
_MOST_KEPT: Final = 64
Sums = Mapping[str, Mapping[str, int]]
"""By handle and metric."""


class _Kept(msgspec.Struct, frozen=True):
    shown: Sequence[Shown]
    at: float
    sums: Sums


class Leaderboard:
    """Sums of everybody who is shown; asked of the store once a minute at most, whoever asks for it."""

    def __init__(
        self,
        store: Store,
        whole_from_ms: WholeFromMs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._whole_from_ms = whole_from_ms
        self._clock = clock
        self._kept: dict[tuple[int, int], _Kept] = {}
        self._asking = asyncio.Lock()

    async def sums(self, shown: Sequence[Shown], start_ms: int, end_ms: int) -> Sums:
        """Return the sums by handle; of one person in several organisations together."""
        if not shown:
            return {}
        async with self._asking:
            kept = self._kept.get((start_ms, end_ms))
            # Whoever has left since is gone at once: these are other people then.
            if kept is None or kept.shown is not shown or self._clock() - kept.at > _FRESH_S:
                kept = _Kept(shown, self._clock(), await self._read(shown, start_ms, end_ms))
                self._kept.pop((start_ms, end_ms), None)
                self._kept[start_ms, end_ms] = kept
                if len(self._kept) > _MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
            return kept.sums

    async def _read(self, shown: Sequence[Shown], start_ms: int, end_ms: int) -> Sums:
        sql, params = leaderboard_statement(shown, start_ms, end_ms)
        store = WalledStore(self._store, {one.org_id for one in shown}, self._whole_from_ms)
        return by_handle(shown, await rows(store, sql, params))


def by_handle(shown: Sequence[Shown], found: Sequence[Mapping[str, Any]]) -> Sums:
    """Add up what was found of each person: known by id, else by address. Pure."""
    of_id = {(one.org_id, one.user_id): one.handle for one in shown if one.user_id}
    of_email = {(one.org_id, one.email.lower()): one.handle for one in shown if one.email}
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(METRICS, 0))
    for row in found:
        handle = of_id.get((row["org_id"], row["user_id"])) or of_email[row["org_id"], row["email"]]
        for metric in METRICS:
            sums[handle][metric] += row[metric]
    return sums


async def leaderboard(ask: Asking, board: Leaderboard, shown: Sequence[Shown]) -> Answer:
    """Answer a page of the leaderboard, best first, in periods of UTC; of people only their handles."""
    kind, metric = cast("PeriodKind", ask.arguments.text(PERIOD)), ask.arguments.text(METRIC)
    limit = ask.arguments.number(p.LIMIT)
    start = period_start(kind, day_asked(ask.arguments.one(AT), ask.now, "UTC"))
    question = question_digest("", ask.route, [kind, metric, start.isoformat()])
    cursor = ask.arguments.one(p.CURSOR)
    after = decoded(cursor, question).at if cursor else 0
    sums = await board.sums(shown, *(_ms(day) for day in (start, period_end(kind, start, ask.now.date()))))
    placed = places({handle: of[metric] for handle, of in sums.items() if of[metric] > 0})
    listed = placed[after : after + limit]
    more = len(placed) > after + limit
    next_cursor = encoded(Cursor(0, 0, after + limit, "", question)) if more else None
    items = [
        {"rank": rank, "handle": handle, "value": usd(value) if metric == "cost" else value}
        for rank, handle, value in listed
    ]
    body = {
        "period": kind,
        "period_start": start.isoformat(),
        "metric": metric,
        "tz": "UTC",
        "items": items,
        "next_cursor": next_cursor,
    }
    return Answer(body, _columns(metric), items, next_cursor)


def places(values: Mapping[str, int]) -> list[tuple[int, str, int]]:
    """Return rank, handle and value, best first; equal values share a rank: 1, 2, 2, 4. Pure."""
    order = sorted(values.items(), key=lambda one: (-one[1], one[0]))
    placed: list[tuple[int, str, int]] = []
    for position, (handle, value) in enumerate(order, 1):
        rank = placed[-1][0] if placed and placed[-1][2] == value else position
        placed.append((rank, handle, value))
    return placed


def period_end(kind: PeriodKind, start: date, today: date) -> date:
    """Return the first day after a period. Pure."""
    if kind == "all":
        return today + timedelta(days=2)  # clocks may be ahead
    if kind in ("day", "week"):
        return start + timedelta(days=1 if kind == "day" else 7)
    longer = 32 if kind == "month" else 366
    return period_start(kind, start + timedelta(days=longer))


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _columns(metric: str) -> tuple[Any, ...]:
    value = Kind.USD if metric == "cost" else Kind.COUNT
    return (*columns(Kind.COUNT, "rank"), *columns(Kind.TEXT, "handle"), *columns(value, "value"))
