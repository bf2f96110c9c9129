"""A request and an answer as they are on the wire, and which of their headers go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec

Signal = Literal["logs", "metrics", "traces"]
SIGNALS: Final[tuple[Signal, ...]] = ("logs", "metrics", "traces")
Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

# RFC 9110, section 7.6.1: these speak of one connection, and so do the names that `Connection` lists.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer"
    b" transfer-encoding upgrade".split()
)
# What the next connection's client says itself; `Expect` has been answered on this one.
_OF_THE_REQUEST: Final = frozenset({b"host", b"content-length", b"expect"})
# What the server that answers the client says itself.
_OF_THE_ANSWER: Final = frozenset({b"content-length", b"date"})
_OWN_KEY: Final = b"x-tokentide-key"
_OWN_KEY_START: Final = b"tt_"


class WireRequest(msgspec.Struct, frozen=True):
    """An export request as it came, its body still compressed; of a gRPC call, the message and its metadata.

    Header names are in lower case, their order and repeats kept.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    grpc: bool = False


class WireAnswer(msgspec.Struct, frozen=True):
    """An answer to hand on as it is. A gRPC call's headers are its trailing metadata."""

    status: int
    headers: Headers
    body: bytes
    grpc_status: int = 0
    grpc_message: str = ""


class HeaderRules(msgspec.Struct, frozen=True):
    """What a user wants left out of the copy, and what added: an added header replaces the client's."""

    drop: frozenset[bytes] = frozenset()
    add: Headers = ()

    @classmethod
    def read(cls, added: str, dropped: Iterable[str]) -> HeaderRules:
        """Return the rules as settings say them: `name=value,…` with percent-encoded values, and names."""
        pairs = (part.partition("=") for part in added.split(",") if part.strip())
        return cls(
            frozenset(name.strip().lower().encode() for name in dropped if name.strip()),
            tuple(
                (name.strip().lower().encode(), unquote_to_bytes(value.strip())) for name, _, value in pairs
            ),
        )

    def kept(self, headers: Headers) -> Headers:
        """Return what may go on: no key of ours, nothing of this connection, nothing dropped or replaced.

        This is also all that is written to disk: a header that is not sent is not stored either.
        """
        gone = self.drop | _OF_THE_REQUEST | {name for name, _ in self.add}
        return tuple(
            header for header in _end_to_end(headers) if header[0] not in gone and not _is_own_key(header)
        )


def answer_headers(headers: Headers, body: bytes, status: int) -> Headers:
    """Return the headers of an upstream's answer for a client whose connection is another one."""
    kept = tuple(header for header in _end_to_end(headers) if header[0] not in _OF_THE_ANSWER)
    return kept if status in (204, 304) else (*kept, (b"content-length", str(len(body)).encode()))


def first(headers: Headers, name: bytes) -> bytes:
    """Return the first header of a name, empty when there is none."""
    return next((value for known, value in headers if known == name), b"")


def _end_to_end(headers: Headers) -> Headers:
    named = b",".join(value for name, value in headers if name == b"connection").lower().split(b",")
    gone = _HOP_BY_HOP.union(name.strip() for name in named)
    return tuple(header for header in headers if header[0] not in gone)


def _is_own_key(header: Header) -> bool:
    name, value = header
    # By its looks, not its checksum: a mistyped key of ours is nobody else's business either.
    bearer = value.partition(b" ")[2].lstrip() if name == b"authorization" else b""
    return name == _OWN_KEY or bearer.startswith(_OWN_KEY_START)
