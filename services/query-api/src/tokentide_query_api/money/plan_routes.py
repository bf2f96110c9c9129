"""`/api/v1/plans`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version
from tokentide_query_api.money import plans
from tokentide_query_api.money.plan_words import NewPlan, PlanChange, PlanPage, ShownPlan

_PLANS: Final = "/api/v1/plans"
_PLAN: Final = "/api/v1/plans/{plan_id:str}"
_COMMON: Final[dict[str, Any]] = {"tags": ["plans"], "response_headers": PRIVATE}


def plan_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of plans."""
    return [*_reading(desk), *_changing(desk)]


def _reading(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @get(_PLANS, summary="Plans of people, by user", responses=problems(), **_COMMON)
    async def list_plans(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> PlanPage:
        principal = await desk().admit(request)
        return await plans.listed(desk(), principal, Page.of(principal.org_id, _PLANS, limit, cursor))

    @get(_PLAN, summary="One plan of somebody", responses=problems(404), **_COMMON)
    async def one_plan(request: Request[Any, Any, Any], plan_id: PathId) -> Response[ShownPlan]:
        found = await plans.one(desk(), await desk().admit(request), plan_id)
        return versioned(found, found.version)

    return [list_plans, one_plan]


def _changing(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @post(_PLANS, summary="Say which plan somebody has", responses=problems(409), **_COMMON)
    async def create_plan(request: Request[Any, Any, Any], data: JSONBody[NewPlan]) -> Response[ShownPlan]:
        made = await plans.create(desk(), await maker_of(desk(), request), data)
        return versioned(made, made.version, status=201)

    @patch(_PLAN, summary="Change price or days of a plan", responses=problems(*CHANGE, 409), **_COMMON)
    async def change_plan(
        request: Request[Any, Any, Any], plan_id: PathId, data: JSONBody[PlanChange], if_match: IfMatch = None
    ) -> Response[ShownPlan]:
        by = await maker_of(desk(), request)
        changed = await plans.change(desk(), by, plan_id, data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_PLAN, summary="Remove a plan, as if it had never been", responses=problems(404), **_COMMON)
    async def remove_plan(request: Request[Any, Any, Any], plan_id: PathId) -> None:
        await plans.remove(desk(), await maker_of(desk(), request), plan_id)

    return [create_plan, change_plan, remove_plan]
