"""`/api/v1/budgets`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_common.accounts_schema import budget_alerts
from tokentide_common.database import reading_async
from tokentide_common.store import Store
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version
from tokentide_query_api.money import budgets
from tokentide_query_api.money.budget_spans import span_at, zone_of
from tokentide_query_api.money.budget_usage import progress
from tokentide_query_api.money.budget_words import (
    BudgetChange,
    BudgetPage,
    NewBudget,
    Progress,
    ShownBudget,
)

_BUDGETS: Final = "/api/v1/budgets"
_BUDGET: Final = "/api/v1/budgets/{budget_id:str}"
_PROGRESS: Final = "/api/v1/budgets/{budget_id:str}/progress"
_COMMON: Final[dict[str, Any]] = {"tags": ["budgets"], "response_headers": PRIVATE}


class Counter(msgspec.Struct, frozen=True):
    """Where budgets are kept, and where it is counted what they are about."""

    desk: Desk
    store: Store


def budget_handlers(counter: Callable[[], Counter]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of budgets."""
    return [*_reading(counter), *_changing(counter)]


def _reading(counter: Callable[[], Counter]) -> Sequence[HTTPRouteHandler]:
    @get(_BUDGETS, summary="Budgets, by name", responses=problems(), **_COMMON)
    async def list_budgets(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> BudgetPage:
        desk = counter().desk
        principal = await desk.admit(request)
        return await budgets.listed(desk, principal, Page.of(principal.org_id, _BUDGETS, limit, cursor))

    @get(_BUDGET, summary="One budget, with its ETag", responses=problems(404), **_COMMON)
    async def one_budget(request: Request[Any, Any, Any], budget_id: PathId) -> Response[ShownBudget]:
        desk = counter().desk
        row = await budgets.one(desk, await desk.admit(request), budget_id)
        return versioned(budgets.shown(desk.safe, row), row.version)

    @get(_PROGRESS, summary="How much of a budget is used", responses=problems(404), **_COMMON)
    async def budget_progress(request: Request[Any, Any, Any], budget_id: PathId) -> Progress:
        at = counter()
        row = await budgets.one(at.desk, await at.desk.admit(request), budget_id)
        now = at.desk.clock()
        span = span_at(row.period, now, zone_of(at.desk.people.organization(row.org_id)))
        mine = (budget_alerts.c.budget_id == row.budget_id, budget_alerts.c.period_start == span.start)
        query = sa.select(budget_alerts.c.threshold).where(*mine).order_by(budget_alerts.c.threshold)
        async with reading_async(at.desk.engine) as connection:
            crossed = list((await connection.execute(query)).scalars())
        return await progress(at.store, row, span, now, crossed)

    return [list_budgets, one_budget, budget_progress]


def _changing(counter: Callable[[], Counter]) -> Sequence[HTTPRouteHandler]:
    @post(_BUDGETS, summary="Add a budget", responses=problems(), **_COMMON)
    async def create_budget(
        request: Request[Any, Any, Any], data: JSONBody[NewBudget]
    ) -> Response[ShownBudget]:
        desk = counter().desk
        made = await budgets.create(desk, await maker_of(desk, request), data)
        return versioned(made, made.version, status=201)

    @patch(_BUDGET, summary="Change a budget", responses=problems(*CHANGE, 409), **_COMMON)
    async def change_budget(
        request: Request[Any, Any, Any],
        budget_id: PathId,
        data: JSONBody[BudgetChange],
        if_match: IfMatch = None,
    ) -> Response[ShownBudget]:
        desk = counter().desk
        by = await maker_of(desk, request)
        changed = await budgets.change(desk, by, budget_id, data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_BUDGET, summary="Remove a budget", responses=problems(404), **_COMMON)
    async def remove_budget(request: Request[Any, Any, Any], budget_id: PathId) -> None:
        desk = counter().desk
        await budgets.remove(desk, await maker_of(desk, request), budget_id)

    return [create_budget, change_budget, remove_budget]
