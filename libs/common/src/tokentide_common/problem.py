"""Errors as answers: `application/problem+json` (RFC 9457) from our error tree. Pure, and of no framework."""

from __future__ import annotations

from typing import Final

import msgspec

from tokentide_common.errors import Retryable, TokentideError

MEDIA_TYPE: Final = "application/problem+json"


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


def problem(
    code: str,
    title: str,
    status: int,
    *,
    detail: str,
    instance: str,
    errors: list[FieldProblem] | None = None,
) -> Problem:
    """Return the body of an error answer."""
    return Problem(
        type=f"urn:tokentide:error:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        instance=instance,
        errors=errors or [],
    )


def problem_for(error: Exception, instance: str) -> Problem:
    """Return what an error tells the caller; of an unexpected one, nothing but its request id."""
    if not isinstance(error, TokentideError):
        detail = "This is our fault. The request id in `instance` finds it in the log."
        unexpected = TokentideError
        return problem(unexpected.code, unexpected.title, unexpected.status, detail=detail, instance=instance)
    fields = [FieldProblem(name, text) for name, text in error.fields.items()]
    return problem(
        error.stable_code, error.title, error.status, detail=error.detail, instance=instance, errors=fields
    )


def problem_headers(error: Exception, instance: str) -> dict[str, str]:
    """Return the headers of an error answer: the request id, when to come back, how to log in."""
    headers = {"x-request-id": instance}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, TokentideError) and error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return headers
