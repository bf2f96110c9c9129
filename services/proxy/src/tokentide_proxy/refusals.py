"""What a client is told when the answer is ours and not the provider's, in words that its SDK reads. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from tokentide_common.problem import MEDIA_TYPE, problem, problem_for, problem_headers
from tokentide_proxy.exchange import Dialect, Headers, Upstream
from tokentide_proxy.upstream_errors import UpstreamError, UpstreamTimeout

_ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_OPENAI: Final = {429: "insufficient_quota"}
_GEMINI: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_SENTENCES: Final = {
    "upstream_unreachable": "{host} cannot be reached.",
    "upstream_timeout": "{host} did not answer in time.",
    "upstream_broken": "{host} closed the connection, or answered what is not HTTP.",
    "upstream_refused_address": "{host} is at an address that the proxy does not connect to.",
}


class Refusal(NamedTuple):
    """A whole answer of our own."""

    status: int
    headers: Headers
    body: bytes


def refusal(error: Exception, upstream: Upstream, instance: str) -> Refusal:
    """Return an error in the format of the upstream's dialect; of an unexpected one nothing but its id."""
    if isinstance(error, UpstreamError):
        status = 504 if isinstance(error, UpstreamTimeout) else 502
        code: str = error.word
        detail = _SENTENCES[error.word].format(host=upstream.host)
        headers = {"x-request-id": instance}
    else:
        said = problem_for(error, instance)
        status, code, detail = said.status, said.code, said.detail
        headers = problem_headers(error, instance)
    if status == 429:
        headers["x-should-retry"] = "false"  # the SDKs would ask twice more within seconds
    body = _body(upstream.dialect, status, code, f"Tokentide: {detail}", instance)
    headers = {**headers, "x-tokentide-error": code}
    return _whole(status, msgspec.json.encode(body), "application/json", headers)


def nowhere(instance: str) -> Refusal:
    """Return what a request is answered that leads to no upstream."""
    detail = (
        "No provider is behind this path: Anthropic is at /v1/, the others are at /openai/, /gemini/ "
        "and where the settings say."
    )
    said = problem(code="no_upstream", title="No upstream", status=404, detail=detail, instance=instance)
    return _whole(404, msgspec.json.encode(said), MEDIA_TYPE, {"x-request-id": instance})


def _body(dialect: Dialect, status: int, code: str, message: str, instance: str) -> dict[str, object]:
    if dialect == "anthropic":
        kind = _ANTHROPIC.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": instance}
    if dialect == "openai":
        kind = _OPENAI.get(status, "invalid_request_error" if status < 500 else "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return {"error": {"code": status, "message": message, "status": _GEMINI.get(status, "INTERNAL")}}


def _whole(status: int, body: bytes, media_type: str, headers: dict[str, str]) -> Refusal:
    given = {"content-type": media_type, "content-length": str(len(body)), **headers}
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in given.items()]
    return Refusal(status, encoded, body)
