"""Budgets of an organisation."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import budget_alerts, budget_stops, budgets
from tokentide_common.database import reading_async, writing_async
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, checked_id, missing, must_be
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.safe import Safe
from tokentide_query_api.money import budget_words as words

_BY_NAME: Final = Order((budgets.c.name, budgets.c.budget_id))


async def listed(desk: Desk, principal: Principal, page: Page) -> words.BudgetPage:
    """Return a page of the budgets that the caller may see."""
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, visible(desk, principal), _BY_NAME, page)
    return words.BudgetPage([shown(desk.safe, row) for row in rows], following)


def visible(desk: Desk, principal: Principal) -> sa.Select[Any]:
    """Return the budgets that somebody may see: admins all, members those of themselves and their keys."""
    principal.require("member")
    query = sa.select(budgets).where(budgets.c.org_id == principal.org_id)
    if principal.at_least("admin"):
        return query
    own = [name for name in (principal.user_id, principal.email.lower()) if name]
    keys = sorted(desk.keys.of_owner(principal.user_id)) if principal.user_id else []
    return query.where(
        sa.or_(
            sa.and_(budgets.c.scope == "user", budgets.c.scope_value.in_(own)),
            sa.and_(budgets.c.scope == "key", budgets.c.scope_value.in_(keys)),
        )
    )


async def one(desk: Desk, principal: Principal, budget_id: str) -> sa.Row[Any]:
    """Return a budget's row. Raises `NotFound`."""
    async with reading_async(desk.engine) as connection:
        wanted = visible(desk, principal).where(budgets.c.budget_id == checked_id(budget_id))
        found = (await connection.execute(wanted)).first()
    if found is None:
        raise missing()
    row: sa.Row[Any] = found
    return row


async def create(desk: Desk, by: Maker, wanted: words.NewBudget) -> words.ShownBudget:
    """Add a budget."""
    by.principal.require("admin")
    words.checked_scope(wanted.scope, wanted.scope_value)
    words.checked_channels(wanted.channels)
    budget_id = f"budget_{uuid.uuid4().hex}"
    is_address = wanted.scope == "user" and "@" in wanted.scope_value
    row = {
        "budget_id": budget_id,
        "org_id": by.org_id,
        "name": wanted.name,
        "scope": wanted.scope,
        "scope_value": wanted.scope_value.lower() if is_address else wanted.scope_value,
        "period": wanted.period,
        "unit": wanted.unit,
        "amount": words.amount_of(wanted.amount, wanted.unit),
        "thresholds": _json(words.thousandths(wanted.thresholds)),
        "channels": sealed(desk.safe, budget_id, wanted.channels),
        "hard_stop": wanted.hard_stop,
        "created_at": desk.clock(),
    }
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.insert(budgets).values(row))
        on = ("budget", budget_id)
        await audit.record(connection, by.org_id, by.actor, "budget.created", on, name=wanted.name)
        return shown(desk.safe, await _found(connection, by.org_id, budget_id))


async def change(
    desk: Desk, by: Maker, budget_id: str, wanted: words.BudgetChange, version: int | None
) -> words.ShownBudget:
    """Change a budget. Raises `NotFound`, and `Conflict` for its version."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        row = await _found(connection, by.org_id, budget_id, lock=True)
        must_be(row.version, version)
        values: dict[str, Any] = {}
        if wanted.name is not msgspec.UNSET:
            values["name"] = wanted.name
        if wanted.amount is not msgspec.UNSET:
            values["amount"] = words.amount_of(wanted.amount, row.unit)
        if wanted.thresholds is not msgspec.UNSET:
            values["thresholds"] = _json(words.thousandths(wanted.thresholds))
        if wanted.channels is not msgspec.UNSET:
            words.checked_channels(wanted.channels)
            values["channels"] = sealed(desk.safe, budget_id, wanted.channels)
        if wanted.hard_stop is not msgspec.UNSET:
            values["hard_stop"] = wanted.hard_stop
        if values:
            update = sa.update(budgets).where(budgets.c.budget_id == budget_id)
            await connection.execute(update.values(**values, version=row.version + 1))
            on = ("budget", budget_id)
            await audit.record(connection, by.org_id, by.actor, "budget.changed", on, changed=sorted(values))
        return shown(desk.safe, await _found(connection, by.org_id, budget_id))


async def remove(desk: Desk, by: Maker, budget_id: str) -> None:
    """Remove a budget, and which of its thresholds were crossed. Raises `NotFound`."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        row = await _found(connection, by.org_id, budget_id, lock=True)
        for table in (budget_alerts, budget_stops):
            await connection.execute(sa.delete(table).where(table.c.budget_id == budget_id))
        await connection.execute(sa.delete(budgets).where(budgets.c.budget_id == budget_id))
        on = ("budget", budget_id)
        await audit.record(connection, by.org_id, by.actor, "budget.removed", on, name=row.name)


def shown(safe: Safe, row: sa.Row[Any]) -> words.ShownBudget:
    """Return a budget as it is answered."""
    return words.shown(row, channels_of(safe, row))


def sealed(safe: Safe, budget_id: str, channels: list[words.Channel]) -> bytes:
    """Return channels as they are kept: whoever knows a webhook's address may write to it."""
    return safe.seal("alert channels", budget_id, _json(channels))


def channels_of(safe: Safe, row: sa.Row[Any]) -> list[words.Channel]:
    """Return a budget's channels; none that were sealed under another secret key."""
    text = safe.open("alert channels", row.budget_id, row.channels)
    return [] if text is None else msgspec.json.decode(text, type=list[words.Channel])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def _found(
    connection: AsyncConnection, org_id: str, budget_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    query = sa.select(budgets).where(budgets.c.org_id == org_id, budgets.c.budget_id == checked_id(budget_id))
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise missing()
    return row
