"""Any error of a Litestar app, its own or ours, as `application/problem+json`."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from tokentide_common.errors import InvalidRequest, TokentideError
from tokentide_common.problem import (
    MEDIA_TYPE,
    FieldProblem,
    Problem,
    problem,
    problem_for,
    problem_headers,
)

# What Litestar itself refuses, under the names of our own error tree.
LITESTAR: Final = {
    400: ("invalid_request", "Invalid request"),
    401: ("unauthorized", "Unauthorized"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    413: ("too_large", "Too large"),
    415: ("unsupported_encoding", "Unsupported encoding"),
    429: ("rate_limited", "Too many requests"),
    503: ("unavailable", "Service unavailable"),
}
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z_.-]{8,64}")
_STATE_KEY: Final = "tokentide_request_id"
_log = structlog.get_logger(__name__)


def exception_handlers() -> ExceptionHandlersMap:
    """Return what `Litestar(exception_handlers=…)` needs so that every error is answered alike."""
    return {TokentideError: answer_problem, HTTPException: answer_problem, Exception: answer_problem}


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer any error as problem+json, and log the ones that nobody expected."""
    instance = request_id(request.scope)
    if isinstance(error, RecursionError):  # the decoder's, of a body: nothing of ours goes that deep
        _log.warning("nested_too_deeply", request_id=instance, route=_route(request))
        error = InvalidRequest("the request is nested too deeply")
    found = _problem(error, instance)
    if found.code == TokentideError.code:
        _log.error("request_failed", request_id=instance, route=_route(request), exc_info=error)
    return Response(
        msgspec.json.encode(found),
        status_code=found.status,
        media_type=MEDIA_TYPE,
        headers={**problem_headers(error, instance), **_litestar_headers(error)},
    )


def request_id(scope: Scope) -> str:
    """Return the id of a request: the caller's `x-request-id` if it is one, else one that we make; kept."""
    state: dict[str, Any] = scope.setdefault("state", {})
    if _STATE_KEY not in state:
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        text = sent.decode("latin-1")
        state[_STATE_KEY] = text if _REQUEST_ID.fullmatch(text) else uuid.uuid4().hex
    return str(state[_STATE_KEY])


def _problem(error: Exception, instance: str) -> Problem:
    if not isinstance(error, HTTPException) or error.status_code not in LITESTAR:
        return problem_for(error, instance)
    code, title = LITESTAR[error.status_code]
    fields = _fields(error.extra)
    # Litestar's own sentence about parameters repeats the whole query.
    detail = "Some parameters are not valid." if fields else error.detail or title
    return problem(code, title, error.status_code, detail=detail, instance=instance, errors=fields)


def _litestar_headers(error: Exception) -> dict[str, str]:
    if not isinstance(error, HTTPException):
        return {}
    allowed = {"allow", "retry-after"}
    headers = {k.lower(): v for k, v in (error.headers or {}).items() if k.lower() in allowed}
    return headers | ({"www-authenticate": "Bearer"} if error.status_code == 401 else {})


def _fields(extra: object) -> list[FieldProblem]:
    """Read the field messages of Litestar's validation errors."""
    if not isinstance(extra, list):
        return []
    return [
        FieldProblem(str(item.get("key", "")), str(item.get("message", "")))
        for item in extra
        if isinstance(item, dict)
    ]


def _route(request: Request[Any, Any, Any]) -> str:
    return str(request.scope.get("path_template", ""))
