"""What account routes answer besides success, as their OpenAPI document says it; and answers themselves.

    @get("/api/v1/keys", responses=problems(), response_headers=PRIVATE, tags=["keys"], summary="…")

Bodies and answers are msgspec structs, which Litestar reads into the document by itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias, TypeVar

from litestar import Response
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import SecurityRequirement
from litestar.params import PathParameter

from tokentide_common.problem import MEDIA_TYPE, Problem
from tokentide_query_api.accounts.versions import etag

T = TypeVar("T")
PathId: TypeAlias = Annotated[str, PathParameter(description="The id, as lists show it.")]
"""Of a handler's argument whose name is in its path."""

_ALWAYS: Final = (400, 401, 403, 413, 429, 503)
_MEANING: Final = {
    400: "The request cannot be understood; `errors` names each field.",
    401: "No credentials, or none that are good.",
    403: "Who asks is known, and may not.",
    404: "There is no such thing in the caller's organisation.",
    409: "It contradicts what is there.",
    412: "It has changed since the version in `If-Match`.",
    413: "The body is too large.",
    428: "`If-Match` is missing.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The accounts database is away; `Retry-After` says when to come back.",
}
CHANGE: Final = (404, 412, 428)
"""What a change of one thing by its ETag may answer besides."""
PUBLIC: Final[list[SecurityRequirement]] = [{}]
"""`security` of a route for callers who are not logged in."""
PRIVATE: Final = (
    ResponseHeader(name="cache-control", value="private, no-store", description="Never kept by a cache."),
    ResponseHeader(name="x-content-type-options", value="nosniff", description="The type is as stated."),
)
"""`response_headers` of every account route."""


def problems(*more: int) -> dict[int, ResponseSpec]:
    """Return `responses` of a route: the problems that any route may answer, and `more` of them."""
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, description=_MEANING[status], media_type=MEDIA_TYPE
        )
        for status in sorted({*_ALWAYS, *more})
    }


def versioned(answer: T, version: int, *, status: int = 200, **headers: str) -> Response[T]:
    """Return an answer with its ETag, which a change of it names in `If-Match`."""
    named: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(answer, status_code=status, headers={"etag": etag(version), **named})
