"""The proxy's application. Today it forwards nothing and says so; health and metrics are as everywhere."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import HttpMethod, Litestar, Request, Response, route

from tokentide_common.health import health_routes
from tokentide_common.metrics import Metrics
from tokentide_common.problem import MEDIA_TYPE, Problem, exception_handlers, request_id
from tokentide_proxy.settings import ProxySettings

_METHODS = [HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]


@route(["/", "/{path:path}"], http_method=_METHODS, include_in_schema=False, sync_to_thread=False)
def not_available_yet(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer 501 `not_available_yet`: a client pointed here learns at once why nothing works."""
    problem = Problem(
        type="urn:tokentide:error:not_available_yet",
        title="Not available yet",
        status=501,
        detail="This version of Tokentide does not forward API calls. Point the client at its provider.",
        code="not_available_yet",
        instance=request_id(request.scope),
    )
    return Response(msgspec.json.encode(problem), status_code=501, media_type=MEDIA_TYPE)


def create_app(_settings: ProxySettings, *, metrics: Metrics | None = None) -> Litestar:
    """Return the application; like that of every service it is made from its settings."""
    return Litestar(
        [not_available_yet, *health_routes(metrics or Metrics())],
        exception_handlers=exception_handlers(),
        openapi_config=None,
        logging_config=None,
    )
