"""Notes which budgets with a hard stop are used up; the proxy reads it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tokentide_common.accounts_schema import budget_stops, budgets
from tokentide_common.database import insert_or, writing_async
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.periods import Period


def stop_changes(budget: sa.Row[Any], span: Period, used: int, noted: sa.Row[Any] | None) -> bool:
    """Return whether what is noted of a budget in its current period is not what ought to be. Pure."""
    stops = budget.hard_stop and used >= budget.amount
    holds = noted is not None and noted.until_s == _until_s(span) and noted.used >= budget.amount
    return bool(not holds if stops else noted is not None)


async def note_stop(desk: Desk, budget_id: str, span: Period, used: int) -> bool:
    """Note whether a budget stops calls until its period is over, and return that."""
    async with writing_async(desk.engine) as connection:
        # Locked: of a budget that is changed or removed at this moment only what is in force is judged.
        mine = sa.select(budgets).where(budgets.c.budget_id == budget_id).with_for_update()
        budget = (await connection.execute(mine)).first()
        if budget is None:
            return False
        stops = bool(budget.hard_stop) and used >= budget.amount
        if not stops:
            await connection.execute(sa.delete(budget_stops).where(budget_stops.c.budget_id == budget_id))
            return False
        said = {"until_s": _until_s(span), "used": used}
        put = insert_or(desk.engine.sync_engine, budget_stops).values(budget_id=budget_id, **said)
        await connection.execute(put.on_conflict_do_update(index_elements=["budget_id"], set_=said))
        return True


def _until_s(span: Period) -> int:
    return int(span.end.timestamp())
