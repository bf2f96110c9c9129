"""`/api/v1/auth`: accounts of people, and their sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from litestar import Request, Response, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_common.database import reading_async
from tokentide_common.key_directory import secret_from
from tokentide_common.problem_answers import request_id
from tokentide_query_api.accounts import auth_shapes as shapes
from tokentide_query_api.accounts import profile, recovery
from tokentide_query_api.accounts.auth_shapes import Me, Tokens
from tokentide_query_api.accounts.desk import Desk, address_of
from tokentide_query_api.accounts.login import Visitor, log_in
from tokentide_query_api.accounts.openapi_answers import PRIVATE, PUBLIC, problems, versioned
from tokentide_query_api.accounts.sessions import rotate
from tokentide_query_api.accounts.signup import sign_up
from tokentide_query_api.accounts.versions import IfMatch, wanted_version
from tokentide_query_api.accounts.whoami import tokens_answer

AUTH: Final = "/api/v1/auth"
Opened = Callable[[], Desk]


def auth_handlers(desk: Opened) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of people's own accounts."""
    return [*_coming(desk), *_recovering(desk), *_staying(desk), *_leaving(desk)]


def visitor_of(request: Request[Any, Any, Any]) -> Visitor:
    """Return who asks, of whom nothing is known yet."""
    agent = "".join(letter for letter in request.headers.get("user-agent", "") if letter.isprintable())
    return Visitor(address_of(request), agent, request_id(request.scope))


def _coming(desk: Opened) -> Sequence[HTTPRouteHandler]:
    @post(
        f"{AUTH}/signup",
        summary="Sign up, or accept an invitation",
        tags=["auth"],
        security=PUBLIC,
        responses=problems(409),
        response_headers=PRIVATE,
    )
    async def signup(request: Request[Any, Any, Any], data: JSONBody[shapes.SignUp]) -> Tokens:
        by = await desk().admit(request) if secret_from(request.headers) else None
        return await sign_up(desk(), data, visitor_of(request), by)

    @post(
        f"{AUTH}/login",
        summary="Log in with a password",
        tags=["auth"],
        security=PUBLIC,
        status_code=200,
        responses=problems(404),
        response_headers=PRIVATE,
    )
    async def login(request: Request[Any, Any, Any], data: JSONBody[shapes.LogIn]) -> Tokens:
        return await log_in(desk(), data, visitor_of(request))

    @post(
        f"{AUTH}/refresh",
        summary="New tokens for a refresh token, which is good once",
        tags=["auth"],
        security=PUBLIC,
        status_code=200,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def refresh(request: Request[Any, Any, Any], data: JSONBody[shapes.Refresh]) -> Tokens:
        opened = await rotate(desk(), data.refresh_token, visitor_of(request).actor())
        async with reading_async(desk().engine) as connection:
            return await tokens_answer(connection, opened)

    return [signup, login, refresh]


def _recovering(desk: Opened) -> Sequence[HTTPRouteHandler]:
    @post(
        f"{AUTH}/verify-email",
        summary="Confirm an e-mail address with what its letter says",
        tags=["auth"],
        security=PUBLIC,
        status_code=204,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def verify_email(request: Request[Any, Any, Any], data: JSONBody[shapes.MailedToken]) -> None:
        await recovery.verify_email(desk(), data.token, visitor_of(request))

    @post(
        f"{AUTH}/password/forgot",
        summary="Have a letter sent by which to choose a new password",
        description="The answer is the same whether anybody has this address or not.",
        tags=["auth"],
        security=PUBLIC,
        status_code=202,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def forgot_password(
        request: Request[Any, Any, Any], data: JSONBody[shapes.Forgotten]
    ) -> shapes.Heard:
        await recovery.forgot_password(desk(), data.email, visitor_of(request))
        return shapes.Heard()

    @post(
        f"{AUTH}/password/reset",
        summary="Choose a new password with what the letter says; all sessions end",
        tags=["auth"],
        security=PUBLIC,
        status_code=204,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def reset_password(
        request: Request[Any, Any, Any], data: JSONBody[shapes.NewPasswordByLetter]
    ) -> None:
        await recovery.reset_password(desk(), data.token, data.password, visitor_of(request))

    return [verify_email, forgot_password, reset_password]


def _staying(desk: Opened) -> Sequence[HTTPRouteHandler]:
    @get(
        f"{AUTH}/me",
        summary="Who asks, and where they belong",
        tags=["auth"],
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def me(request: Request[Any, Any, Any]) -> Response[Me]:
        found = await profile.who_am_i(desk(), await desk().caller(request))
        return versioned(found.me, found.version)

    @patch(
        f"{AUTH}/me",
        summary="Change what I say of myself, or my password",
        description="`If-Match` may be left out: nobody else changes this.",
        tags=["auth"],
        responses=problems(409, 412),
        response_headers=PRIVATE,
    )
    async def change_me(
        request: Request[Any, Any, Any], data: JSONBody[shapes.MyChange], if_match: IfMatch = None
    ) -> Response[Me]:
        principal = await desk().admit(request)
        wanted = wanted_version(if_match) if if_match is not None else None
        changed = await profile.change_me(desk(), principal, data, wanted, visitor_of(request))
        return versioned(changed.me, changed.version)

    return [me, change_me]


def _leaving(desk: Opened) -> Sequence[HTTPRouteHandler]:
    @post(
        f"{AUTH}/switch",
        summary="Go on in another organisation of mine",
        tags=["auth"],
        status_code=200,
        responses=problems(404),
        response_headers=PRIVATE,
    )
    async def switch(request: Request[Any, Any, Any], data: JSONBody[shapes.Switch]) -> Tokens:
        principal = await desk().admit(request)
        return await profile.switch(desk(), principal, data.org_id, visitor_of(request))

    @post(
        f"{AUTH}/join",
        summary="Accept an invitation as who I am, and go on in its organisation",
        tags=["auth"],
        status_code=200,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def join(request: Request[Any, Any, Any], data: JSONBody[shapes.Acceptance]) -> Tokens:
        principal = await desk().admit(request)
        return await profile.join(desk(), principal, data.invitation, visitor_of(request))

    @post(
        f"{AUTH}/logout",
        summary="End the session: its tokens are good for nothing",
        tags=["auth"],
        status_code=204,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def logout(request: Request[Any, Any, Any]) -> None:
        await profile.log_out(desk(), await desk().admit(request), visitor_of(request))

    return [switch, join, logout]
