"""Reads the answers of one connection: llhttp, and the doubts it leaves to us.

A body may end where the connection ends; llhttp (as httptools gives it to us) does not say so, hence
`until_close`. It does not know which request an answer belongs to, hence `answered_by_head`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import httptools

from tokentide_proxy.exchange import Headers
from tokentide_proxy.upstream_errors import UpstreamBroken
from tokentide_proxy.upstream_limits import UpstreamLimits

_MAX_INTERIM: Final = 32
"""Answers of status 1xx before the final one."""
_NEVER_A_BODY: Final = frozenset({204, 304})
_MOST_DIGITS: Final = 7
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % _MOST_DIGITS)
_CHUNK_END: Final = b"\r\n"


class _Distrusted(Exception):
    """Raised inside a callback, to stop the parser; it comes out as `UpstreamBroken`."""


class AnswerParser:
    """One for each connection. `expect` begins an answer; `feed` may complete its head, its body, or both."""

    __slots__ = (
        "_answered_by_head",
        "_fed_bytes",
        "_fields",
        "_interim",
        "_interim_headers",
        "_interims",
        "_limits",
        "_parser",
        "_trailers",
        "_unproductive_bytes",
        "between_chunks",
        "complete",
        "has_head",
        "headers",
        "keep_alive",
        "pieces",
        "status",
        "until_close",
    )

    def __init__(self, limits: UpstreamLimits) -> None:
        self._limits = limits
        self._answered_by_head = False
        self._parser: httptools.HttpResponseParser | None = None
        self.expect(answered_by_head=False)
        self.complete = True  # nothing is asked yet, so nothing may come

    def expect(self, *, answered_by_head: bool) -> None:
        """Begin to read the answer to a new request."""
        # After an answer to HEAD, llhttp would take the next one for the body that was announced.
        if self._parser is None or self._answered_by_head:
            self._parser = httptools.HttpResponseParser(self)
        self._answered_by_head = answered_by_head
        self._interim = False
        self._interims = 0
        self._interim_headers: Headers = []
        self._fed_bytes = 0
        self._unproductive_bytes = 0
        self.between_chunks = False
        """All that was read ends with the end of a chunk: another one may be passed on without reading it."""
        self.has_head = False
        self.complete = False
        self.until_close = False
        self.keep_alive = False
        self.status = 0
        self.headers: Headers = []
        self._trailers: Headers = []
        self._fields = self.headers
        self.pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Read on. Raises `UpstreamBroken`, with all that came before the break in place."""
        assert self._parser is not None, "nothing is fed after the end"
        self._fed_bytes += len(data)
        self._unproductive_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not (self.complete and self.has_head):
                raise UpstreamBroken(f"not an answer: {error.__context__ or error}") from error
            # The answer itself is whole. What follows it belongs to nobody, and so does the connection.
            self.keep_alive = False
        if self.between_chunks and not data.endswith(_CHUNK_END):
            self.between_chunks = False  # the size of the next one has begun
        if self._unproductive_bytes > self._limits.max_head_bytes:
            raise UpstreamBroken("more bytes than a head may have, and nothing for the reader in them")

    def ends_here(self) -> bool:
        """Tell whether an orderly end of the connection is the end of the answer."""
        return self.until_close and not self.complete

    def end(self) -> None:
        """Let go of llhttp, which holds on to this object."""
        self._parser = None

    def on_message_begin(self) -> None:
        """Accept an answer that was asked for; llhttp calls this and what follows."""
        if self.complete:
            raise _Distrusted("an answer that nobody asked for")
        if self._interim:
            self._interim = False
            self.headers = self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header or a trailer."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Judge the head: whether it is an interim answer, and where the body will end."""
        assert self._parser is not None
        self._bound_headers()
        self.status = status = self._parser.get_status_code()
        fields = dict(self.headers)
        length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        if status < 200:
            self._begin_interim(length, coding)
            return
        self._judge_framing(length, coding)
        self.has_head = True
        self._fields = self._trailers
        if self._answered_by_head:
            # Whoever announces chunks may send them, even though there is nothing to send.
            self.complete = True
            self.keep_alive = coding is None and self._parser.should_keep_alive()
        elif length is None and coding is None and status not in _NEVER_A_BODY:
            self.until_close = True

    def on_body(self, piece: bytes) -> None:
        """Collect a piece of the body."""
        if self.complete:
            raise _Distrusted("a body where none can be")
        self._unproductive_bytes = 0
        self.pieces.append(piece)

    def on_chunk_header(self) -> None:
        """The size of a chunk, or of the last one, has been read."""
        self.between_chunks = False

    def on_chunk_complete(self) -> None:
        """A chunk has been read, with the line break at its end."""
        self.between_chunks = True

    def on_message_complete(self) -> None:
        """End the answer, or only the interim one."""
        assert self._parser is not None
        self._unproductive_bytes = 0
        self.between_chunks = False
        if self._trailers:
            self._bound_headers()
        if not self._interim and not self.complete:
            self.complete = True
            # Only here does llhttp still know: after this callback its flags are those of a new message.
            self.keep_alive = self._parser.should_keep_alive()

    def _bound_headers(self) -> None:
        fields = self.headers
        if self._interim_headers or self._trailers:
            fields = [*self._interim_headers, *fields, *self._trailers]
        # Until a head is whole, `feed` bounds it.
        if self._limits.exceeded(fields, at_most=self._fed_bytes):
            raise _Distrusted("more headers than we take")

    def _begin_interim(self, length: bytes | None, coding: bytes | None) -> None:
        if self.status == 101 or self.status < 100 or coding is not None or (length or b"0") != b"0":
            raise _Distrusted(f"status {self.status}, which was not asked for")
        self._interims += 1
        if self._interims > _MAX_INTERIM:
            raise _Distrusted("interim answers without end")
        self._interim = True
        self._interim_headers += self.headers

    def _judge_framing(self, length: bytes | None, coding: bytes | None) -> None:
        """Refuse an answer whose end two readers could see in two places."""
        assert self._parser is not None
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise _Distrusted("a version of HTTP that was not spoken to it")
        if coding is None:
            return
        repeated = [name for name, _ in self.headers].count(b"transfer-encoding") > 1
        if length is not None or repeated or version == "1.0" or coding.strip(b" \t").lower() != b"chunked":
            raise _Distrusted("a framing that has two meanings")


def payload_start(chunk: bytes) -> int:
    """Return where the payload begins of bytes that are one whole chunk; 0 if they are anything else.

    The last chunk, which is empty, is none, nor is one with an extension: those are for llhttp.
    """
    opening = _opening(len(chunk))
    if opening and chunk.startswith(opening) and chunk.endswith(_CHUNK_END):
        return len(opening)
    size = _CHUNK_SIZE.match(chunk)  # with capitals, or zeros before it
    if size is None or not chunk.endswith(_CHUNK_END):
        return 0
    start, length = size.end(), int(size[1], 16)
    return start if length and start + length + len(_CHUNK_END) == len(chunk) else 0


@lru_cache(maxsize=1024)
def _opening(length: int) -> bytes:
    """Return how a chunk of this length begins if its size is written as most do; b"" if none can."""
    for digits in range(1, _MOST_DIGITS + 1):
        size = b"%x" % max(length - digits - 2 * len(_CHUNK_END), 0)
        if len(size) == digits and size != b"0":
            return size + _CHUNK_END
    return b""
