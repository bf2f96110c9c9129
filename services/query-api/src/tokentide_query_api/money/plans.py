"""Plans of an organisation's people."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import organizations, user_plans
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import Conflict
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, checked_id, missing, must_be
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.money.plan_words import (
    NewPlan,
    PlanChange,
    PlanPage,
    ShownPlan,
    checked_days,
    monthly_nano,
    shown,
    subject_of,
)

_BY_USER: Final = Order((user_plans.c.subject, user_plans.c.plan_id))


async def listed(desk: Desk, principal: Principal, page: Page) -> PlanPage:
    """Return a page of the plans that the caller may see."""
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, visible(principal), _BY_USER, page)
    return PlanPage([shown(row) for row in rows], following)


def visible(principal: Principal) -> sa.Select[Any]:
    """Return the plans that somebody may see: admins all of the organisation, members their own."""
    principal.require("member")
    query = sa.select(user_plans).where(user_plans.c.org_id == principal.org_id)
    if principal.at_least("admin"):
        return query
    own = [name for name in (principal.user_id, principal.email.lower()) if name]
    return query.where(user_plans.c.subject.in_(own))


async def one(desk: Desk, principal: Principal, plan_id: str) -> ShownPlan:
    """Return a plan. Raises `NotFound`."""
    async with reading_async(desk.engine) as connection:
        wanted = visible(principal).where(user_plans.c.plan_id == checked_id(plan_id))
        row = (await connection.execute(wanted)).first()
    if row is None:
        raise missing()
    return shown(row)


async def create(desk: Desk, by: Maker, wanted: NewPlan) -> ShownPlan:
    """Add a plan. Raises `Conflict` where the user has one of that provider on any of the days."""
    by.principal.require("admin")
    checked_days(wanted.valid_from, wanted.valid_until)
    row = {
        "plan_id": f"plan_{uuid.uuid4().hex}",
        "org_id": by.org_id,
        "subject": subject_of(wanted.user),
        "provider": wanted.provider,
        "plan": wanted.plan,
        "monthly_nano": monthly_nano(wanted.plan, wanted.monthly_usd),
        "valid_from": wanted.valid_from,
        "valid_until": wanted.valid_until,
        "created_at": desk.clock(),
    }
    async with writing_async(desk.engine) as connection:
        await _alone(connection, row)
        await connection.execute(sa.insert(user_plans).values(row))
        on = ("plan", row["plan_id"])
        await audit.record(connection, by.org_id, by.actor, "plan.created", on, user=row["subject"])  # type: ignore[arg-type]  # texts
        return shown(await _found(connection, by.org_id, str(row["plan_id"])))


async def change(desk: Desk, by: Maker, plan_id: str, wanted: PlanChange, version: int | None) -> ShownPlan:
    """Change a plan. Raises `NotFound`, and `Conflict` for its version or its days."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        row = await _found(connection, by.org_id, plan_id, lock=True)
        must_be(row.version, version)
        given = {n: v for n, v in msgspec.structs.asdict(wanted).items() if v is not msgspec.UNSET}
        if "monthly_usd" in given:
            given["monthly_nano"] = monthly_nano(row.plan, given.pop("monthly_usd"))
        values = {name: value for name, value in given.items() if row._mapping[name] != value}
        if values:
            changed = {**row._mapping, **values}
            checked_days(changed["valid_from"], changed["valid_until"])
            await _alone(connection, changed)
            update = sa.update(user_plans).where(user_plans.c.plan_id == plan_id)
            await connection.execute(update.values(**values, version=row.version + 1))
            on = ("plan", plan_id)
            await audit.record(connection, by.org_id, by.actor, "plan.changed", on, changed=sorted(values))
        return shown(await _found(connection, by.org_id, plan_id))


async def remove(desk: Desk, by: Maker, plan_id: str) -> None:
    """Remove a plan, as if it had never been; to end it, give it a `valid_until`. Raises `NotFound`."""
    by.principal.require("admin")
    async with writing_async(desk.engine) as connection:
        row = await _found(connection, by.org_id, plan_id, lock=True)
        await connection.execute(sa.delete(user_plans).where(user_plans.c.plan_id == plan_id))
        on = ("plan", plan_id)
        await audit.record(connection, by.org_id, by.actor, "plan.removed", on, user=row.subject)


async def _alone(connection: AsyncConnection, row: Any) -> None:  # noqa: ANN401 -- a row of the table
    """Raise `Conflict` if a user would have two plans of one provider on one day."""
    # The guarantee: whoever adds or changes a plan waits until another one of the organisation is done with
    # that, since neither of two at once would see the plan of the other.
    turn = sa.select(organizations.c.org_id).where(organizations.c.org_id == row["org_id"]).with_for_update()
    await connection.execute(turn)
    plans = user_plans.c
    overlapping = sa.select(plans.plan_id).where(
        plans.org_id == row["org_id"],
        plans.subject == row["subject"],
        plans.provider == row["provider"],
        plans.plan_id != row["plan_id"],
        plans.valid_from < (row["valid_until"] or date.max),
        sa.or_(plans.valid_until.is_(None), plans.valid_until > row["valid_from"]),
    )
    if (await connection.execute(overlapping)).first() is not None:
        raise Conflict("the user has a plan of this provider on some of these days", code="plan_overlaps")


async def _found(
    connection: AsyncConnection, org_id: str, plan_id: str, *, lock: bool = False
) -> sa.Row[Any]:
    plans = user_plans.c
    query = sa.select(user_plans).where(plans.org_id == org_id, plans.plan_id == checked_id(plan_id))
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise missing()
    return row
