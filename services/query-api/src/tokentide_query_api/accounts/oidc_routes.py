"""`/api/v1/auth/oidc`: logging in with identity providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from tokentide_query_api.accounts.auth_routes import visitor_of
from tokentide_query_api.accounts.auth_shapes import Secret, Tokens
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.oidc_login import PATH, Callback, OidcLogins, redeem
from tokentide_query_api.accounts.openapi_answers import PRIVATE, PUBLIC, PathId, problems

_COOKIE: Final = "tokentide_oidc"
_COOKIE_S: Final = 600
_Code = Annotated[str, QueryParameter(max_length=4000)]
# Litestar keeps an argument called `state` for itself.
_State = Annotated[str, QueryParameter(name="state", max_length=4000)]
_ReturnTo = Annotated[
    str, QueryParameter(max_length=1000, description="The page of this installation to go on to.")
]


class ShownProvider(msgspec.Struct, frozen=True):
    """An identity provider that people may log in with."""

    name: str
    title: str
    start: str
    """Where a browser begins."""


class ShownProviders(msgspec.Struct, frozen=True):
    """All identity providers."""

    items: list[ShownProvider]
    next_cursor: str | None = None


class RedeemedTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands behind `#ticket=` in the address of the page that a login has led to."""

    ticket: Secret


def oidc_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of logins with identity providers."""
    logins = OidcLogins()
    return [*_beginning(desk, logins), *_ending(desk, logins)]


def _beginning(desk: Callable[[], Desk], logins: OidcLogins) -> Sequence[HTTPRouteHandler]:
    @get(
        PATH,
        summary="Identity providers that people may log in with",
        tags=["auth"],
        security=PUBLIC,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def list_providers() -> ShownProviders:
        found = sorted(logins.providers(desk()).values(), key=lambda one: one.name)
        return ShownProviders(
            [ShownProvider(one.name, one.title or one.name, f"{PATH}/{one.name}/start") for one in found]
        )

    @get(
        f"{PATH}/{{provider:str}}/start",
        summary="Begin a login: the browser goes on to the identity provider",
        tags=["auth"],
        security=PUBLIC,
        status_code=302,
        responses=problems(404),
        response_headers=PRIVATE,
    )
    async def start_login(provider: PathId, return_to: _ReturnTo = "") -> Response[None]:
        left = await logins.begin(desk(), provider, return_to)
        cookie = _cookie(desk(), left.browser, _COOKIE_S)
        return Response(None, status_code=302, headers={"location": left.url}, cookies=[cookie])

    return [list_providers, start_login]


def _ending(desk: Callable[[], Desk], logins: OidcLogins) -> Sequence[HTTPRouteHandler]:
    @get(
        f"{PATH}/{{provider:str}}/callback",
        summary="End a login: where the identity provider sends the browser back to",
        tags=["auth"],
        security=PUBLIC,
        responses={**problems(404), 303: ResponseSpec(None, description="On to `return_to`.")},
        response_headers=PRIVATE,
    )
    async def end_login(
        request: Request[Any, Any, Any], provider: PathId, code: _Code = "", returned_state: _State = ""
    ) -> Response[Tokens | None]:
        came = Callback(code, returned_state, request.cookies.get(_COOKIE, ""))
        ended = await logins.end(desk(), provider, came, visitor_of(request))
        if isinstance(ended, Tokens):
            return Response(ended, cookies=[_cookie(desk(), "", 0)])
        kept = [_cookie(desk(), came.browser, _COOKIE_S)]  # the ticket is good in this browser alone
        return Response(None, status_code=303, headers={"location": ended}, cookies=kept)

    @post(
        f"{PATH}/token",
        summary="Tokens for the ticket that a login has led to",
        tags=["auth"],
        security=PUBLIC,
        status_code=200,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def redeem_ticket(
        request: Request[Any, Any, Any], data: JSONBody[RedeemedTicket]
    ) -> Response[Tokens]:
        browser = request.cookies.get(_COOKIE, "")
        told = await redeem(desk(), data.ticket, browser, visitor_of(request))
        return Response(told, status_code=200, cookies=[_cookie(desk(), "", 0)])

    return [end_login, redeem_ticket]


def _cookie(desk: Desk, value: str, lasts_s: int) -> Cookie:
    base = urlsplit(desk.settings.link_base)
    return Cookie(
        key=_COOKIE,
        value=value,
        path=base.path.rstrip("/") + PATH,
        max_age=lasts_s,
        httponly=True,
        secure=base.scheme == "https",
        samesite="lax",  # the provider's page leads back here, which `strict` would not count as ours
    )
