"""`/api/v1/teams`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, Response, delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts import teams
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.members import MemberPage
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.teams import NewTeam, ShownTeam, TeamChange, TeamPage
from tokentide_query_api.accounts.versions import IfMatch, wanted_version

_TEAMS: Final = "/api/v1/teams"
_TEAM: Final = "/api/v1/teams/{team_id:str}"
_PEOPLE: Final = "/api/v1/teams/{team_id:str}/members"
_PERSON: Final = "/api/v1/teams/{team_id:str}/members/{user_id:str}"
_COMMON: Final[dict[str, Any]] = {"tags": ["teams"], "response_headers": PRIVATE}


def team_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of teams."""
    return [*_reading(desk), *_changing(desk), *_people(desk)]


def _reading(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @get(_TEAMS, summary="Teams, by name", responses=problems(), **_COMMON)
    async def list_teams(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> TeamPage:
        principal = await desk().admit(request)
        return await teams.listed(desk(), principal, Page.of(principal.org_id, _TEAMS, limit, cursor))

    @get(_TEAM, summary="One team, without its members", responses=problems(404), **_COMMON)
    async def one_team(request: Request[Any, Any, Any], team_id: PathId) -> Response[ShownTeam]:
        found = await teams.one(desk(), await desk().admit(request), team_id)
        return versioned(found, found.version)

    return [list_teams, one_team]


def _changing(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @post(_TEAMS, summary="Add a team", responses=problems(409), **_COMMON)
    async def create_team(request: Request[Any, Any, Any], data: JSONBody[NewTeam]) -> Response[ShownTeam]:
        made = await teams.create(desk(), await maker_of(desk(), request), data)
        return versioned(made, made.version, status=201)

    @patch(_TEAM, summary="Change a team", responses=problems(*CHANGE, 409), **_COMMON)
    async def change_team(
        request: Request[Any, Any, Any], team_id: PathId, data: JSONBody[TeamChange], if_match: IfMatch = None
    ) -> Response[ShownTeam]:
        by = await maker_of(desk(), request)
        changed = await teams.change(desk(), by, team_id, data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_TEAM, summary="Remove a team", responses=problems(404), **_COMMON)
    async def remove_team(request: Request[Any, Any, Any], team_id: PathId) -> None:
        await teams.remove(desk(), await maker_of(desk(), request), team_id)

    return [create_team, change_team, remove_team]


def _people(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @get(_PEOPLE, summary="Who is in a team", responses=problems(404), **_COMMON)
    async def list_team_members(
        request: Request[Any, Any, Any],
        team_id: PathId,
        limit: Limit = DEFAULT_LIMIT,
        cursor: NextPage = None,
    ) -> MemberPage:
        principal = await desk().admit(request)
        page = Page.of(principal.org_id, _PEOPLE, limit, cursor, team_id)
        return await teams.people_of(desk(), principal, team_id, page)

    @put(_PERSON, status_code=204, summary="Put a member into a team", responses=problems(404), **_COMMON)
    async def join_team(request: Request[Any, Any, Any], team_id: PathId, user_id: PathId) -> None:
        await teams.add_person(desk(), await maker_of(desk(), request), team_id, user_id)

    @delete(_PERSON, summary="Take a member out of a team", responses=problems(404), **_COMMON)
    async def leave_team(request: Request[Any, Any, Any], team_id: PathId, user_id: PathId) -> None:
        await teams.take_out(desk(), await maker_of(desk(), request), team_id, user_id)

    return [list_team_members, join_team, leave_team]
