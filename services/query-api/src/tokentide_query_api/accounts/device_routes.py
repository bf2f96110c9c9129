"""`/api/v1/auth/device`: logging in machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from tokentide_query_api.accounts import auth_shapes as shapes
from tokentide_query_api.accounts import device_login
from tokentide_query_api.accounts.auth_routes import AUTH, Opened, visitor_of
from tokentide_query_api.accounts.openapi_answers import PRIVATE, PUBLIC, problems


def device_handlers(desk: Opened) -> Sequence[HTTPRouteHandler]:
    """Return the handlers by which machines get their keys."""

    @post(
        f"{AUTH}/device",
        summary="Begin the login of a machine: codes for it and for its user",
        tags=["auth"],
        security=PUBLIC,
        status_code=200,
        responses=problems(),
        response_headers=PRIVATE,
    )
    async def begin(request: Request[Any, Any, Any], data: JSONBody[shapes.NewDevice]) -> shapes.DeviceCodes:
        return await device_login.begin(desk(), data, visitor_of(request))

    @post(
        f"{AUTH}/device/decision",
        summary="Let the machine in that shows this code, or not",
        tags=["auth"],
        status_code=200,
        responses=problems(404),
        response_headers=PRIVATE,
    )
    async def decide(request: Request[Any, Any, Any], data: JSONBody[shapes.Decision]) -> shapes.Decided:
        principal = await desk().admit(request)
        return await device_login.decide(desk(), principal, data, visitor_of(request))

    @post(
        f"{AUTH}/device/token",
        summary="The keys of a machine that was let in, once",
        description="Until then 400 with the code `authorization_pending` or `slow_down`.",
        tags=["auth"],
        security=PUBLIC,
        status_code=200,
        responses=problems(409),
        response_headers=PRIVATE,
    )
    async def token(request: Request[Any, Any, Any], data: JSONBody[shapes.DeviceCode]) -> shapes.DeviceKeys:
        return await device_login.ask(desk(), data.device_code, visitor_of(request))

    return [begin, decide, token]
