"""`/api/v1/users`: the members of an organisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, Response, delete, get, patch
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts import members
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.members import MemberPage, RoleChange, ShownMember
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version

_USERS: Final = "/api/v1/users"
_USER: Final = "/api/v1/users/{user_id:str}"
_TAGS: Final = ("users",)


def member_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of an organisation's members."""

    @get(_USERS, summary="Members, by name", tags=_TAGS, responses=problems(), response_headers=PRIVATE)
    async def list_users(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> MemberPage:
        principal = await desk().admit(request)
        return await members.listed(desk(), principal, Page.of(principal.org_id, _USERS, limit, cursor))

    @get(_USER, summary="One member", tags=_TAGS, responses=problems(404), response_headers=PRIVATE)
    async def one_user(request: Request[Any, Any, Any], user_id: PathId) -> Response[ShownMember]:
        found = await members.one(desk(), await desk().admit(request), user_id)
        return versioned(found, found.version)

    @patch(
        _USER,
        summary="Give a member another role",
        tags=_TAGS,
        responses=problems(*CHANGE, 409),
        response_headers=PRIVATE,
    )
    async def change_user(
        request: Request[Any, Any, Any], user_id: PathId, data: JSONBody[RoleChange], if_match: IfMatch = None
    ) -> Response[ShownMember]:
        by = await maker_of(desk(), request)
        changed = await members.change_role(desk(), by, user_id, data.role, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(
        _USER,
        summary="Remove a member, or leave: keys and sessions end with it",
        tags=_TAGS,
        responses=problems(404, 409),
        response_headers=PRIVATE,
    )
    async def remove_user(request: Request[Any, Any, Any], user_id: PathId) -> None:
        await members.remove(desk(), await maker_of(desk(), request), user_id)

    return [list_users, one_user, change_user, remove_user]
