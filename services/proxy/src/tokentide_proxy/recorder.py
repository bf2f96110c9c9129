"""What is kept of an exchange once it has ended: its event, the limits it told, a log line, metrics."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from tokentide_common.events import UsageEvent
from tokentide_common.metrics import Metrics
from tokentide_proxy.attribution import request_facts
from tokentide_proxy.exchange import Headers, Observer, Upstream
from tokentide_proxy.exchanges import USAGE_UNREAD, Exchange
from tokentide_proxy.headers import first
from tokentide_proxy.limit_headers import tells_limits
from tokentide_proxy.observation import usage_event
from tokentide_proxy.observed import Observed
from tokentide_proxy.outcome import Outcome
from tokentide_proxy.whom import Whom

_REQUEST_IDS: Final = {"anthropic": b"request-id", "openai": b"x-request-id", "gemini": b""}
_ACCOUNT: Final = b"chatgpt-account-id"
_MAX_ID_BYTES: Final = 256
_MOST_TOGETHER: Final = 64
_MOST_BYTES: Final = 1 << 20
_log = structlog.get_logger(__name__)


class Tap(Protocol):
    """Where events and limits go: neither call waits or raises."""

    def offer(self, event: UsageEvent) -> None:
        """Take an event."""

    def offer_limits(self, headers: Headers, seen: Observer) -> None:
        """Take what an answer's headers say of limits."""


class Recorder:
    """Works when the client has its answer already; whatever goes wrong here goes wrong for nobody else.

    With `linger_s` it works on what has ended within that time, one after the other: the processor has this
    code at hand then, and it takes half as long.
    """

    def __init__(self, tap: Tap, metrics: Metrics, *, linger_s: float = 0.0) -> None:
        self._linger_s = linger_s
        self._ended: list[Exchange] = []
        self._ended_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tap = tap
        self._metrics = metrics
        self._overhead = metrics.tally("tokentide_proxy_overhead_seconds")
        self._log = _log.bind()  # to bind it each time would cost more than the line that is not written
        self._tells_all = self._log.is_enabled_for(logging.DEBUG)
        self._run = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._counted: dict[tuple[str, int], int] = {}
        self._overheads: list[float] = []

    def record(self, exchange: Exchange) -> None:
        """Take down an exchange that has ended, now or in a moment. Never raises."""
        exchange.end()
        self._ended.append(exchange)
        self._ended_bytes += len(exchange.asked)
        many = len(self._ended) >= _MOST_TOGETHER or self._ended_bytes > _MOST_BYTES
        if many or not self._linger_s:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self.flush)

    def repeated(self, upstream: Upstream) -> None:
        """Count a request that is sent once more, since its connection had been closed before."""
        self._metrics.counter("tokentide_proxy_upstream_repeats_total", upstream=upstream.label).inc()

    def flush(self) -> None:
        """Take down what has ended. Never raises."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended, self._ended_bytes = self._ended, [], 0
        for exchange in ended:
            self._safely(exchange)
        counted, self._counted = self._counted, {}
        for (upstream, status), requests in counted.items():
            self._metrics.counter(
                "tokentide_proxy_requests_total", upstream=upstream, status=str(status)
            ).inc(requests)
        overheads, self._overheads = self._overheads, []
        self._overhead.observe_all(overheads)

    def _safely(self, exchange: Exchange) -> None:
        try:
            self._record(exchange)
        except Exception:
            _log.exception("exchange_not_recorded", upstream=exchange.route.upstream.label)

    def _record(self, exchange: Exchange) -> None:
        upstream, whom, reader = exchange.route.upstream, exchange.whom, exchange.reader
        if exchange.complete and reader is not None:
            reader.end()
        observed = Observed() if reader is None else reader.observed
        outcome = exchange.outcome(observed)
        if whom is not None and reader is not None and exchange.counts(observed):
            self._tap.offer(self._event(exchange, whom, observed, outcome))
        if whom is not None and tells_limits(exchange.answer_headers):
            now = datetime.now(UTC)
            account_id = _account_id(exchange.headers)
            seen = Observer(upstream.provider, now, whom.org_id, whom.key_id, account_id, observed.model)
            self._tap.offer_limits(exchange.answer_headers, seen)
        if outcome.error_type == USAGE_UNREAD:
            self._metrics.counter("tokentide_proxy_usage_unread_total", upstream=upstream.label).inc()
        what = upstream.label, exchange.status
        self._counted[what] = self._counted.get(what, 0) + 1
        if exchange.first_byte_sent_at:
            self._overheads.append(exchange.overhead_s())
        # A line for each good exchange costs as much as a third of the exchange itself.
        if outcome.status != "ok" or self._tells_all:
            self._tell(exchange, outcome, observed)

    def _event(self, exchange: Exchange, whom: Whom, observed: Observed, outcome: Outcome) -> UsageEvent:
        upstream = exchange.route.upstream
        request_id = first(exchange.answer_headers, _REQUEST_IDS[upstream.dialect])
        return usage_event(
            whom=whom,
            upstream=upstream,
            facts=exchange.facts or request_facts(exchange.asked),
            request_id=request_id.decode("latin-1") if len(request_id) <= _MAX_ID_BYTES else "",
            observed=observed,
            outcome=outcome,
            own_id=self._own_id,
        )

    def _own_id(self) -> str:
        return f"{self._run}-{next(self._numbers)}"

    def _tell(self, exchange: Exchange, outcome: Outcome, observed: Observed) -> None:
        write = self._log.debug if outcome.status == "ok" else self._log.info
        write(
            "exchange",
            upstream=exchange.route.upstream.label,
            method=exchange.method.decode("latin-1"),
            path=exchange.path,
            status=exchange.status,
            outcome=outcome.status,
            reason=outcome.error_type or observed.error_type,
            duration_ms=outcome.duration_ms,
            ttft_ms=outcome.ttft_ms,
        )


def _account_id(asked: Headers) -> str:
    """Return the account that a request names: Codex does, and the answers to it do not."""
    named = first(asked, _ACCOUNT)
    return named.decode("latin-1") if len(named) <= _MAX_ID_BYTES else ""
