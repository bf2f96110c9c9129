"""One exchange between a client and a provider: what is noted of it while it passes, and how it ended."""

from __future__ import annotations

from time import monotonic, time
from typing import Final, Literal

from tokentide_common.events import Status
from tokentide_proxy.attribution import request_facts
from tokentide_proxy.client_body import ClientBody
from tokentide_proxy.exchange import Headers, RequestFacts
from tokentide_proxy.observed import Observed
from tokentide_proxy.outcome import Outcome
from tokentide_proxy.routing import Route
from tokentide_proxy.upstream_errors import UpstreamWord
from tokentide_proxy.usage.reader import AnswerReader, lookup_reader_for, reader_for
from tokentide_proxy.whom import Whom

BrokeOff = Literal["client_left", "proxy_stopped", "request_broken"] | UpstreamWord
"""Why an answer did not come to its end, where no provider has a word for it."""
USAGE_UNREAD: Final = "usage_unread"
"""The answer came, and nothing of its usage could be read: it is no free call."""
_UNFINISHED: Final = "answer_unfinished"
_NO_ANSWER = 502
# Streams last for minutes. Shorter requests are read when all is over, many together.
_KEPT_BYTES: Final = 64 * 1024


class Exchange:
    """Times are those of `time.monotonic`, 0 for what has not happened."""

    __slots__ = (
        "answer_headers",
        "began_at",
        "body",
        "broke_off",
        "complete",
        "ended_at",
        "facts",
        "first_byte_at",
        "first_byte_sent_at",
        "handed_over_at",
        "headers",
        "method",
        "reader",
        "request_sent_at",
        "route",
        "started_at",
        "status",
        "whole",
        "whom",
    )

    def __init__(self, route: Route, method: bytes, headers: Headers) -> None:
        self.route = route
        self.method = method
        self.headers = headers
        """As the client sent them."""
        self.started_at = time()
        self.began_at = monotonic()
        self.handed_over_at = self.request_sent_at = self.first_byte_at = self.first_byte_sent_at = 0.0
        self.whom: Whom | None = None
        """Whom it is for; None before that is known."""
        self.whole = b""
        """What the client has sent, where it came whole and is short enough to be read."""
        self.body: ClientBody | None = None
        """What it has sent otherwise."""
        self.facts: RequestFacts | None = None
        """What a long request told besides its content: the rest is not kept while its answer lasts."""
        self.status = 0
        """What the client was answered, 0 before."""
        self.answer_headers: Headers = []
        """The provider's."""
        self.reader: AnswerReader | None = None
        self.broke_off: BrokeOff | None = None
        self.complete = False
        """The provider's answer has come to its end."""
        self.ended_at = 0.0

    @property
    def path(self) -> str:
        """The path at the upstream, without what was asked."""
        return self.route.target.partition(b"?")[0].decode("latin-1")

    @property
    def asked(self) -> bytes | bytearray:
        """What the client has sent, as far as it is kept."""
        return self.whole if self.body is None else self.body.copy

    @property
    def is_long(self) -> bool:
        """Whether so much has been sent, and all of it, that it is not to be kept until the answer ends."""
        body = self.body
        if body is None:
            return len(self.whole) > _KEPT_BYTES
        return body.sent and body.held_bytes > _KEPT_BYTES

    def forget_request(self) -> None:
        """Read now what is to be known of the request, and hold it no longer."""
        if self.ended_at:
            return
        self.facts = request_facts(self.asked)
        self.whole = b""
        if self.body is not None:
            self.body.forget()

    def answered(self, status: int, headers: Headers) -> None:
        """Note the head of the provider's answer."""
        self.status, self.answer_headers = status, headers
        self.reader = self._reader(status, headers)

    def refused(self, status: int) -> None:
        """Note an answer of our own; if the provider was asked in vain, that was a call, too."""
        self.status = status
        if self.handed_over_at and self.reader is None:
            self.reader = self._reader(_NO_ANSWER, [])

    def left(self, why: BrokeOff) -> None:
        """Note that the answer did not come to its end."""
        self.broke_off = why
        if self.handed_over_at and self.reader is None and not self.status:
            self.reader = self._reader(_NO_ANSWER, [])

    def end(self) -> None:
        """Note that there is no more of it."""
        self.ended_at = monotonic()

    @property
    def ttft_ms(self) -> int:
        """From the last byte of the request to the first one of the answer's body."""
        if not self.first_byte_at:
            return 0
        # An answer may come before the request is all sent.
        sent_at = max(self.request_sent_at, self.handed_over_at)
        return max(round((self.first_byte_at - sent_at) * 1000), 0)

    def outcome(self, observed: Observed) -> Outcome:
        """Return how it ended. Whatever may have missed tokens is `aborted`: a lower bound."""
        status, word = self._ended(observed)
        return Outcome(
            status,
            self.status,
            self.started_at,
            duration_ms=round((self.ended_at - self.began_at) * 1000),
            ttft_ms=self.ttft_ms,
            error_type=word,
        )

    def overhead_s(self) -> float:
        """Return the time that we added: before the request went on, and to the answer's first byte."""
        return self.handed_over_at - self.began_at + self.first_byte_sent_at - self.first_byte_at

    def _ended(self, observed: Observed) -> tuple[Status, str]:
        # Who has read the answer's own end may leave before that of the transfer: nothing is missing.
        whole = observed.finished and not observed.error_type
        if self.broke_off is not None and not (whole and self.status < 400):
            answered = self.answer_headers or not self.broke_off.startswith("upstream_")
            return "aborted" if answered else "error", self.broke_off
        if self.status >= 400:
            return "error", ""
        if observed.finished or self.reader is None or self.method != b"POST":
            return ("error" if observed.error_type else "ok"), ""
        if observed.error_type:
            return ("aborted" if observed.has_usage else "error"), ""
        return "aborted", _UNFINISHED if observed.has_usage or observed.pending else USAGE_UNREAD

    def counts(self, observed: Observed) -> bool:
        """Return whether it is a call. To look up an earlier one is that call, once its usage is there."""
        if self.reader is None:
            return False
        return self.method == b"POST" or (observed.has_usage and observed.finished)

    def _reader(self, status: int, headers: Headers) -> AnswerReader | None:
        if self.method != b"POST":
            return lookup_reader_for(self.path, status, headers) if self.method == b"GET" else None
        return reader_for(self.route.upstream.dialect, self.path, status, headers)
