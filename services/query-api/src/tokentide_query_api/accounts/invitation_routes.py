"""`/api/v1/invitations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, QueryParameter

from tokentide_query_api.accounts import invitations
from tokentide_query_api.accounts.changes import changing_people, maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.invitations import InvitationPage, NewInvitation, ShownInvitation
from tokentide_query_api.accounts.invitees import accept_invitation
from tokentide_query_api.accounts.openapi_answers import PRIVATE, PathId, problems
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page

_ALL: Final = "/api/v1/invitations"
_ONE: Final = "/api/v1/invitations/{invitation_id:str}"
_ACCEPT: Final = "/api/v1/invitations/accept"
_COMMON: Final[dict[str, Any]] = {"tags": ["invitations"], "response_headers": PRIVATE}
_Closed = Annotated[bool, QueryParameter(description="Those too that cannot be accepted any more.")]


class Accepting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The secret of a letter."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Accepted(msgspec.Struct, frozen=True):
    """Of which organisation somebody is a member now."""

    org_id: str


def invitation_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of invitations."""

    @get(_ALL, summary="Invitations, newest first", responses=problems(), **_COMMON)
    async def list_invitations(
        request: Request[Any, Any, Any],
        include_closed: _Closed = False,
        limit: Limit = DEFAULT_LIMIT,
        cursor: NextPage = None,
    ) -> InvitationPage:
        principal = await desk().admit(request)
        page = Page.of(principal.org_id, _ALL, limit, cursor, include_closed)
        return await invitations.listed(desk(), principal, page, closed=include_closed)

    @post(_ALL, summary="Invite somebody by letter", responses=problems(409), **_COMMON)
    async def invite(request: Request[Any, Any, Any], data: JSONBody[NewInvitation]) -> ShownInvitation:
        return await invitations.invite(desk(), await maker_of(desk(), request), data)

    @post(_ACCEPT, status_code=200, summary="Accept an invitation", responses=problems(), **_COMMON)
    async def accept(request: Request[Any, Any, Any], data: JSONBody[Accepting]) -> Accepted:
        by = await maker_of(desk(), request)
        user_id = by.principal.require_user()
        async with changing_people(desk()) as connection:
            org_id = await accept_invitation(connection, data.token, user_id, by.actor, desk().clock())
        return Accepted(org_id)

    @delete(_ONE, summary="Take an invitation back", responses=problems(404), **_COMMON)
    async def take_back(request: Request[Any, Any, Any], invitation_id: PathId) -> None:
        await invitations.take_back(desk(), await maker_of(desk(), request), invitation_id)

    return [list_invitations, invite, accept, take_back]
