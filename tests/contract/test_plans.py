"""Plans of people, on SQLite and PostgreSQL: who says which, that none overlap, and what they save."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
import sqlalchemy as sa

from infra.account_desks import office
from tokentide_common.accounts_schema import audit_log, user_plans
from tokentide_common.database import reading
from tokentide_common.errors import Conflict, Forbidden, InvalidRequest, NotFound
from tokentide_query_api.accounts.pages import Page
from tokentide_query_api.money import plans
from tokentide_query_api.money.plan_words import NewPlan, PlanChange, ShownPlan

MAY, JUNE, JULY = (date(2026, month, 1) for month in (5, 6, 7))


@pytest.fixture
async def at(database_url):
    async with office(database_url) as opened:
        yield opened


def new(
    user: str = "ann", plan: str = "max5x", first: date = JUNE, until: date | None = None, **more
) -> NewPlan:
    return NewPlan(user=user, plan=plan, valid_from=first, valid_until=until, **more)


async def shown(at, role: str, org: str = "org_a", limit: int = 2) -> list[str]:
    found, cursor = [], None
    while True:
        page = Page.of(org, "/plans", limit, cursor)
        answer = await plans.listed(at.desk, at.by(role, org).principal, page)
        found += [plan.user for plan in answer.items]
        if (cursor := answer.next_cursor) is None:
            return found


def stored(at, table: sa.Table) -> int:
    with reading(at.people.engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


async def test_plans_of_single_persons_have_their_price_and_seats_are_told_theirs(at):
    by = at.by("admin")
    prices = {}
    for plan in ("pro", "max5x", "max20x"):
        prices[plan] = (await plans.create(at.desk, by, new(plan, plan))).monthly_usd
    seat = await plans.create(at.desk, by, new("Bob@Acme.Example", "team", monthly_usd="24.99"))
    assert prices == {"pro": "20", "max5x": "100", "max20x": "200"}
    assert (seat.monthly_usd, seat.user, seat.valid_until, seat.version) == (
        "24.99",
        "bob@acme.example",
        None,
        1,
    )
    for plan in ("team", "custom"):
        with pytest.raises(InvalidRequest):
            await plans.create(at.desk, by, new("eve", plan))


@pytest.mark.parametrize("role", ["viewer", "member"])
async def test_only_admins_say_who_has_which_plan(at, role):
    made = await plans.create(at.desk, at.by("admin"), new())
    with pytest.raises(Forbidden):
        await plans.create(at.desk, at.by(role), new("eve"))
    with pytest.raises(Forbidden):
        await plans.change(at.desk, at.by(role), made.plan_id, PlanChange(monthly_usd="1"), None)
    with pytest.raises(Forbidden):
        await plans.remove(at.desk, at.by(role), made.plan_id)


async def test_members_see_their_own_plans_and_nobody_those_of_another_organisation(at):
    member = at.who("member")
    for user in ("zoe", member.user_id, member.email.upper()):
        made = await plans.create(at.desk, at.by("admin"), new(user))
    assert await shown(at, "admin") == sorted(["zoe", member.user_id, member.email])
    assert await shown(at, "member") == sorted([member.user_id, member.email])
    assert await shown(at, "owner", "org_b") == []
    with pytest.raises(Forbidden):
        await shown(at, "viewer")
    theirs = at.by("owner", "org_b")
    for reached in (
        plans.one(at.desk, theirs.principal, made.plan_id),
        plans.remove(at.desk, theirs, made.plan_id),
        plans.change(at.desk, theirs, made.plan_id, PlanChange(), None),
    ):
        with pytest.raises(NotFound):
            await reached


async def test_a_user_has_one_plan_of_a_provider_on_a_day(at):
    by = at.by("admin")
    await plans.create(at.desk, by, new(until=JULY))
    await plans.create(at.desk, by, new(until=JULY, provider="openai", plan="custom", monthly_usd="20"))
    second, last = date(2026, 6, 2), date(2026, 6, 30)
    for first, until in ((MAY, None), (JUNE, JULY), (MAY, second), (last, None)):
        with pytest.raises(Conflict):
            await plans.create(at.desk, by, new(first=first, until=until))
    for first, until in ((MAY, JUNE), (JULY, None)):
        await plans.create(at.desk, by, new(first=first, until=until))


async def test_of_two_who_add_overlapping_plans_at_once_one_is_refused(at):
    by = at.by("admin")
    results = await asyncio.gather(
        *(plans.create(at.desk, by, new()) for _ in range(4)), return_exceptions=True
    )
    assert [type(result) for result in results].count(ShownPlan) == 1
    assert stored(at, user_plans) == 1


async def test_a_change_is_for_the_version_that_was_seen_and_is_in_the_audit_log(at):
    by = at.by("admin")
    made = await plans.create(at.desk, by, new())
    ended = await plans.change(at.desk, by, made.plan_id, PlanChange(valid_until=JULY, monthly_usd="90"), 1)
    assert (ended.valid_until, ended.monthly_usd, ended.version) == (JULY, "90", 2)
    again = await plans.change(at.desk, by, made.plan_id, PlanChange(valid_until=JULY), None)
    assert again.version == 2, "what changes nothing is no change"
    with pytest.raises(Conflict):
        await plans.change(at.desk, by, made.plan_id, PlanChange(monthly_usd="1"), 1)
    with pytest.raises(InvalidRequest):
        await plans.change(at.desk, by, made.plan_id, PlanChange(valid_until=MAY), None)
    await plans.remove(at.desk, by, made.plan_id)
    assert (stored(at, user_plans), stored(at, audit_log)) == (0, 3)
