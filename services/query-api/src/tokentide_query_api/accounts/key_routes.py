"""`/api/v1/keys`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, QueryParameter

from tokentide_common.keys import KeyKind
from tokentide_query_api.accounts import keys
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_shapes import IssuedKey, KeyChange, KeyPage, NewKey, ShownKey
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, PathId, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version

_KEYS: Final = "/api/v1/keys"
_KEY: Final = "/api/v1/keys/{key_id:str}"
_Kind = Annotated[KeyKind | None, QueryParameter(description="Only keys of this kind.")]
_Revoked = Annotated[bool, QueryParameter(description="Revoked ones too.")]


def key_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of keys."""
    return [*_reading(desk), *_changing(desk)]


def _reading(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @get(_KEYS, summary="Keys, newest first", tags=["keys"], responses=problems(), response_headers=PRIVATE)
    async def list_keys(
        request: Request[Any, Any, Any],
        kind: _Kind = None,
        include_revoked: _Revoked = False,
        limit: Limit = DEFAULT_LIMIT,
        cursor: NextPage = None,
    ) -> KeyPage:
        principal = await desk().admit(request)
        page = Page.of(principal.org_id, _KEYS, limit, cursor, kind, include_revoked)
        return await keys.listed(desk(), principal, page, kind, revoked=include_revoked)

    @get(
        _KEY,
        summary="One key, never its secret",
        tags=["keys"],
        responses=problems(404),
        response_headers=PRIVATE,
    )
    async def one_key(request: Request[Any, Any, Any], key_id: PathId) -> Response[ShownKey]:
        found = await keys.one(desk(), await desk().admit(request), key_id)
        return versioned(found, found.version)

    return [list_keys, one_key]


def _changing(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    @post(
        _KEYS,
        summary="Issue a key, shown once",
        tags=["keys"],
        responses=problems(409),
        response_headers=PRIVATE,
    )
    async def issue_key(request: Request[Any, Any, Any], data: JSONBody[NewKey]) -> Response[IssuedKey]:
        issued = await keys.issue(desk(), await maker_of(desk(), request), data)
        return versioned(issued, issued.version, status=201)

    @patch(
        _KEY,
        summary="Change a key",
        tags=["keys"],
        responses=problems(*CHANGE, 409),
        response_headers=PRIVATE,
    )
    async def change_key(
        request: Request[Any, Any, Any], key_id: PathId, data: JSONBody[KeyChange], if_match: IfMatch = None
    ) -> Response[ShownKey]:
        by = await maker_of(desk(), request)
        changed = await keys.change(desk(), by, key_id, data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_KEY, summary="Revoke a key", tags=["keys"], responses=problems(404), response_headers=PRIVATE)
    async def revoke_key(request: Request[Any, Any, Any], key_id: PathId) -> None:
        await keys.revoke(desk(), await maker_of(desk(), request), key_id)

    return [issue_key, change_key, revoke_key]
