"""Errors as answers: `application/problem+json` (RFC 9457), from our error tree and from Litestar's."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from tokentide_common.errors import Retryable, TokentideError

MEDIA_TYPE: Final = "application/problem+json"

# What Litestar itself refuses, under the names of our own error tree.
_LITESTAR: Final = {
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


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error answer. `code` is stable and documented, `instance` is the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    errors: list[FieldProblem] = []


def problem_for(error: Exception, instance: str) -> Problem:
    """Return what an error tells the caller; of an unexpected one, nothing but its request id."""
    code, title, status = TokentideError.code, TokentideError.title, TokentideError.status
    detail = "This is our fault. The request id in `instance` finds it in the log."
    errors: list[FieldProblem] = []
    if isinstance(error, TokentideError):
        code, title, status, detail = error.stable_code, error.title, error.status, error.detail
        errors = [FieldProblem(name, text) for name, text in error.fields.items()]
    elif isinstance(error, HTTPException) and error.status_code in _LITESTAR:
        status = error.status_code
        code, title = _LITESTAR[status]
        errors = _fields(error.extra)
        # Litestar's own sentence about parameters repeats the whole query.
        detail = "Some parameters are not valid." if errors else error.detail or title
    return Problem(
        type=f"urn:tokentide:error:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        instance=instance,
        errors=errors,
    )


def problem_headers(error: Exception, instance: str) -> dict[str, str]:
    """Return the headers of an error answer: the request id, when to come back, how to log in."""
    headers = {"x-request-id": instance}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, HTTPException):
        allowed = {"allow", "retry-after"}
        headers |= {k.lower(): v for k, v in (error.headers or {}).items() if k.lower() in allowed}
    if _status(error) == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def request_id(scope: Scope) -> str:
    """Return the id of a request: the caller's `x-request-id` if it is one, else one that we make; kept."""
    state: dict[str, Any] = scope.setdefault("state", {})
    if _STATE_KEY not in state:
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        text = sent.decode("latin-1")
        state[_STATE_KEY] = text if _REQUEST_ID.fullmatch(text) else uuid.uuid4().hex
    return str(state[_STATE_KEY])


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer any error as problem+json, and log the ones that nobody expected."""
    instance = request_id(request.scope)
    problem = problem_for(error, instance)
    if problem.code == TokentideError.code:
        _log.error("request_failed", request_id=instance, route=_route(request), exc_info=error)
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem_headers(error, instance),
    )


def exception_handlers() -> ExceptionHandlersMap:
    """Return what `Litestar(exception_handlers=…)` needs so that every error is answered alike."""
    return {TokentideError: answer_problem, HTTPException: answer_problem, Exception: answer_problem}


def _fields(extra: object) -> list[FieldProblem]:
    """Read the field messages of Litestar's validation errors."""
    if not isinstance(extra, list):
        return []
    return [
        FieldProblem(str(item.get("key", "")), str(item.get("message", "")))
        for item in extra
        if isinstance(item, dict)
    ]


def _status(error: Exception) -> int:
    if isinstance(error, TokentideError):
        return error.status
    return error.status_code if isinstance(error, HTTPException) else 500


def _route(request: Request[Any, Any, Any]) -> str:
    return str(request.scope.get("path_template", ""))
