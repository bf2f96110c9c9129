"""`/api/v1/organisations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts import organizations
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.organizations import (
    NewOrganization,
    OrganizationChange,
    OrganizationPage,
    ShownOrganization,
)
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version

_ALL: Final = "/api/v1/organisations"
_ONE: Final = "/api/v1/organisations/{org_id:str}"
_COMMON: Final[dict[str, Any]] = {"tags": ["organisations"], "response_headers": PRIVATE}


def organization_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of organisations."""
    return [*_reading(desk), *_changing(desk)]


def _reading(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @get(_ALL, summary="The caller's organisations", responses=problems(), **_COMMON)
    async def list_organisations(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> OrganizationPage:
        principal = await desk().admit(request)
        page = Page.of(principal.org_id, _ALL, limit, cursor, principal.actor_id)
        return await organizations.listed(desk(), principal, page)

    @get(_ONE, summary="The caller's organisation", responses=problems(404), **_COMMON)
    async def one_organisation(
        request: Request[Any, Any, Any], org_id: PathId
    ) -> Response[ShownOrganization]:
        found = await organizations.one(desk(), await desk().admit(request), org_id)
        return versioned(found, found.version)

    return [list_organisations, one_organisation]


def _changing(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @post(_ALL, summary="Found an organisation", responses=problems(409), **_COMMON)
    async def found_organisation(
        request: Request[Any, Any, Any], data: JSONBody[NewOrganization]
    ) -> Response[ShownOrganization]:
        made = await organizations.found(desk(), await maker_of(desk(), request), data)
        return versioned(made, made.version, status=201)

    @patch(_ONE, summary="Change an organisation", responses=problems(*CHANGE), **_COMMON)
    async def change_organisation(
        request: Request[Any, Any, Any],
        org_id: PathId,
        data: JSONBody[OrganizationChange],
        if_match: IfMatch = None,
    ) -> Response[ShownOrganization]:
        by = await maker_of(desk(), request)
        changed = await organizations.change(desk(), by, org_id, data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_ONE, summary="Close an organisation for good", responses=problems(*CHANGE), **_COMMON)
    async def close_organisation(
        request: Request[Any, Any, Any], org_id: PathId, if_match: IfMatch = None
    ) -> None:
        by = await maker_of(desk(), request)
        await organizations.close(desk(), by, org_id, wanted_version(if_match))

    return [found_organisation, change_organisation, close_organisation]
