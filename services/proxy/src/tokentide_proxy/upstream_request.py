"""A request as it goes on the wire, and what frames its body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from tokentide_common.errors import InvalidRequest
from tokentide_proxy.exchange import Headers
from tokentide_proxy.familiar_head import FamiliarHead

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_TARGET: Final = re.compile(rb"[\x21-\x7e\x80-\xff]+")


class UpstreamRequest:
    """The head in one piece, and how the body follows it."""

    __slots__ = ("answered_by_head", "head", "idempotent", "length", "stream", "whole")

    def __init__(
        self,
        head: bytes,
        whole: bytes | None,
        stream: AsyncIterator[bytes] | None,
        length: int | None,
        *,
        answered_by_head: bool = False,
        idempotent: bool = False,
    ) -> None:
        self.head = head
        self.whole = whole
        """The body, when it is known as a whole: it can be sent once more. Empty when there is none."""
        self.stream = stream
        self.length = length
        """Of a streamed body; None: it goes in chunks."""
        self.answered_by_head = answered_by_head
        """HEAD: the answer has no body, whatever it says of its length."""
        self.idempotent = idempotent
        """To send it twice does no more than to send it once."""


class RequestPlan:
    """A request that is sent again and again, with other bodies."""

    __slots__ = ("_head",)

    def __init__(self, head: FamiliarHead) -> None:
        self._head = head

    @classmethod
    def of(cls, request: UpstreamRequest) -> RequestPlan | None:
        """Return what repeats a request; None: it is one of a kind."""
        head = FamiliarHead.of(request.head)
        usual = request.whole and not request.answered_by_head
        return cls(head) if head is not None and usual else None

    def with_body(self, body: bytes) -> UpstreamRequest:
        """Return the request with another body."""
        return UpstreamRequest(self._head.with_length(len(body)), body, None, len(body))


def wire_request(
    method: bytes, target: bytes, headers: Headers, body: AsyncIterator[bytes] | bytes | None
) -> UpstreamRequest:
    """Return the request; raises `InvalidRequest` for what would be another request at the other end."""
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT" or _TARGET.fullmatch(target) is None:
        raise InvalidRequest("the method or the target is not one that can be forwarded")
    fields = dict(headers)
    if b"transfer-encoding" in fields:
        raise InvalidRequest("transfer-encoding belongs to one connection and is not forwarded")
    if len(fields) != len(headers) and [name for name, _ in headers].count(b"content-length") > 1:
        raise InvalidRequest("content-length is given more than once")
    length = _declared(fields.get(b"content-length"))
    whole = b"" if body is None else body if isinstance(body, bytes) else None
    lines = [b"%b %b HTTP/1.1" % (method, target), *map(b": ".join, headers)]
    if whole is None:
        if length is None:
            lines.append(b"transfer-encoding: chunked")
    elif length is None and whole:
        lines.append(b"content-length: %d" % len(whole))
    elif length is not None and length != len(whole):
        raise InvalidRequest("the body is not as long as its content-length says")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # A line break inside a name or a value would begin a header, or a request, that nobody asked for.
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise InvalidRequest("a header contains a line break or a null byte")
    return UpstreamRequest(
        head=head,
        whole=whole,
        stream=None if body is None or isinstance(body, bytes) else body,
        length=length,
        answered_by_head=method == b"HEAD",
        idempotent=method in _IDEMPOTENT,
    )


def _declared(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit():
        raise InvalidRequest("content-length is not a number")
    return int(value)
