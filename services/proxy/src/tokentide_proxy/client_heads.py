"""Which heads of requests are refused that llhttp has accepted, and what their senders are told. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import httptools

from tokentide_common.problem import problem
from tokentide_proxy.exchange import Headers
from tokentide_proxy.head_bounds import HeadBounds

_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


class ClientLimits(HeadBounds, frozen=True, kw_only=True):
    """How long we wait for a client, in seconds, and how much of a head we take."""

    head_s: float = 30.0
    """From the beginning of a connection, or of a request on it, to the end of the request's head."""
    idle_s: float = 300.0
    """Between two parts of a request's body, and for a part of an answer to be taken."""


class Refused(Exception):
    """The request is not one that is served; the message is for its sender."""

    def __init__(self, *, code: str, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem(code, title, status, detail=detail, instance=uuid.uuid4().hex)


def judged(
    parser: httptools.HttpRequestParser, target: bytes, headers: Headers, limits: ClientLimits, at_most: int
) -> Refused | None:
    """Return why a head of `at_most` so many bytes is refused that llhttp has accepted, None if it is not."""
    if limits.exceeded(headers, at_most=at_most, besides=len(target)):
        return head_too_large()
    if parser.get_http_version() != "1.1":
        return Refused(
            code="http_version_not_supported",
            status=505,
            title="HTTP version not supported",
            detail="The proxy speaks HTTP/1.1.",
        )
    if parser.get_method() == b"TRACE":
        # What comes back is the request, with the provider's key that we have put in.
        return Refused(
            code="method_not_allowed",
            status=405,
            title="Method not allowed",
            detail="TRACE does not go through.",
        )
    fields = dict(headers)
    coding = fields.get(b"transfer-encoding")
    if (
        # llhttp reads no body behind a head that asks for another protocol.
        parser.should_upgrade()
        or (coding is not None and coding.lower() != b"chunked")
        or (len(fields) != len(headers) and not _ONCE.isdisjoint(_repeated(headers)))
        or b"host" not in fields
        or target[:1] != b"/"
    ):
        return malformed()
    return None


def _repeated(headers: Headers) -> Iterator[bytes]:
    names = [name for name, _ in headers]
    return (name for name in names if names.count(name) > 1)


def malformed() -> Refused:
    """Return the refusal of what is no request, or more than one."""
    return Refused(
        code="invalid_request",
        status=400,
        title="Invalid request",
        detail="This is not a request of HTTP/1.1 that has one meaning.",
    )


def head_too_large() -> Refused:
    """Return the refusal of a head over its bounds."""
    return Refused(
        code="head_too_large",
        status=431,
        title="Request header fields too large",
        detail="The head of the request is over its bounds.",
    )
