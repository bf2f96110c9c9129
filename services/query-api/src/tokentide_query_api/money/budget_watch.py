"""Looks after budgets in the background: one of all replicas compares them with what was used."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog

from tokentide_common.accounts_schema import budget_alerts, budget_stops, budgets
from tokentide_common.broker import Publisher
from tokentide_common.database import Engine, reading_async, writing_async
from tokentide_common.errors import TokentideError, Unavailable
from tokentide_common.every import Every
from tokentide_common.leases import acquire_lease, release_lease, renew_lease
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.money.alerts import decide
from tokentide_query_api.money.budget_spans import crossed, span_at, span_before, zone_of
from tokentide_query_api.money.budget_stops import note_stop, stop_changes
from tokentide_query_api.money.budget_usage import used_by_day
from tokentide_query_api.money.deliveries import Deliveries, tidy
from tokentide_query_api.periods import Period

EVERY_S: Final = 5.0
_LEASE: Final = "budgets"
_LEASE_S: Final = 60.0
_TIDY_EVERY_S: Final = 900.0
_LATE: Final = timedelta(days=7)
"""So long after its end a period is still looked at: calls may be told late."""
_REMEMBERED: Final = timedelta(days=70)
"""Longer than two months: of every period that is looked at it is known what was decided."""
_log = structlog.get_logger(__name__)


class BudgetWatch:
    """Compares every budget with its usage, and sends what is to be told.

    The lease only spares the others the work: were there two, each alert is still decided once.
    """

    def __init__(
        self,
        desk: Desk,
        store: Store,
        engine: Engine,
        publisher: Publisher | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._desk = desk
        self._store = store
        self._engine = engine
        self._deliveries = Deliveries(desk, publisher, metrics)
        self._holder = f"query-api-{uuid.uuid4().hex}"
        self._fence: int | None = None

    async def look(self) -> None:
        """Look once. Raises `Unavailable` when the database is away."""
        if await self._is_ours():
            told = sa.select(*(budget_alerts.c[name] for name in ("budget_id", "period_start", "threshold")))
            recent = budget_alerts.c.period_start > self._desk.clock() - _REMEMBERED
            async with reading_async(self._desk.engine) as connection:
                found = (await connection.execute(sa.select(budgets))).all()
                decided = {tuple(row) for row in await connection.execute(told.where(recent))}
                stops = {row.budget_id: row for row in await connection.execute(sa.select(budget_stops))}
            for budget in found:
                await self._judge(budget, decided, stops.get(budget.budget_id))
        await self._deliveries.send_due()

    async def stop(self) -> None:
        """Give the lease back, so that another replica need not wait for its end."""
        if self._fence is not None:
            now = self._desk.clock()
            await asyncio.to_thread(release_lease, self._engine, _LEASE, self._holder, self._fence, now=now)

    async def _is_ours(self) -> bool:
        now, fence = self._desk.clock(), self._fence
        renew = partial(renew_lease, self._engine, _LEASE, self._holder, ttl_s=_LEASE_S, now=now)
        if fence is not None and await asyncio.to_thread(renew, fence):
            return True
        acquire = partial(acquire_lease, self._engine, _LEASE, self._holder, ttl_s=_LEASE_S, now=now)
        self._fence = await asyncio.to_thread(acquire)
        return self._fence is not None

    async def _judge(
        self, budget: sa.Row[Any], decided: Collection[tuple[Any, ...]], stop: sa.Row[Any] | None
    ) -> None:
        try:
            thresholds = msgspec.json.decode(budget.thresholds, type=list[int])
            # The period of now first: calls are being made that may have to stop.
            for number, span in enumerate(self._spans(budget)):
                used = sum((await used_by_day(self._store, budget, span)).values())
                reached = crossed(used, budget.amount, thresholds)
                if any((budget.budget_id, span.start, threshold) not in decided for threshold in reached):
                    await self._decide(budget, span, used)
                if number == 0 and stop_changes(budget, span, used, stop):
                    stopped = await note_stop(self._desk, budget.budget_id, span, used)
                    _log.info("budget_stop", budget_id=budget.budget_id, stopped=stopped)
        except Exception as error:  # whatever it is: one budget's trouble keeps no other from its alerts
            # It is looked at again soon. Of our own errors the code, of others the kind alone.
            code = error.stable_code if isinstance(error, TokentideError) else type(error).__name__
            _log.warning("budget_not_judged", budget_id=budget.budget_id, code=code)

    async def _decide(self, budget: sa.Row[Any], span: Period, used: int) -> None:
        async with writing_async(self._desk.engine) as connection:
            # Locked: of a budget that is changed or removed at this moment only what is in force is judged.
            mine = sa.select(budgets).where(budgets.c.budget_id == budget.budget_id).with_for_update()
            current = (await connection.execute(mine)).first()
            if current is None:
                return
            decided = await decide(self._desk, connection, current, span, used)
        for alert in decided:
            _log.info("budget_alert", alert_id=alert.alert_id, threshold=alert.threshold)
        if decided:
            self._desk.outbox.wake()

    def _spans(self, budget: sa.Row[Any]) -> list[Period]:
        """Return the period of now, and the one before while calls of it may still come."""
        now = self._desk.clock()
        organization = self._desk.people.organization(budget.org_id)
        if organization is None:
            return []
        span = span_at(budget.period, now, zone_of(organization))
        before = span_before(budget.period, span)
        is_late = before.end > max(budget.created_at, now - _LATE)
        return [span, before] if is_late else [span]


@asynccontextmanager
async def budgets_watched(desk: Desk, store: Store, engine: Engine, metrics: Metrics) -> AsyncIterator[None]:
    """Look after budgets meanwhile; `engine` is of the desk's database."""
    publisher = Publisher(desk.settings.broker_url, deadline_s=10)
    watch = BudgetWatch(desk, store, engine, publisher, metrics)
    again = Every("budgets", watch.look, seconds=EVERY_S, at_end=False)
    tidying = Every("tidy-alerts", partial(tidy, desk), seconds=_TIDY_EVERY_S, at_end=False)
    again.start()
    tidying.start()
    try:
        yield
    finally:
        await tidying.stop()
        await again.stop()
        with suppress(Unavailable):  # the lease ends by itself
            await watch.stop()
        await publisher.stop()
