"""What became of copies: counted each, logged when something is lost, and never a line for every request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import structlog

from tokentide_common.metrics import Metrics

Queue = Literal["mirror", "aside", "relay"]
Loss = Literal["queue_full", "disk_error", "too_old", "damaged", "refused", "failed"]
_LOG_EVERY_S: Final = 10.0
_log = structlog.get_logger(__name__)


class Outcomes:
    """Counts the outcomes of one queue, and warns of losses and outages at most every ten seconds each."""

    def __init__(
        self, metrics: Metrics, queue: Queue, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._queue = queue
        self._clock = clock
        self._unsaid: dict[str, int] = {}
        self._said_at: dict[str, float] = {}

    def delivered(self) -> None:
        """Count a request that arrived."""
        self._count("delivered")

    def later(self, detail: str) -> None:
        """Count an attempt that is to be made again."""
        self._count("retried")
        self._say("forward_waits", "retried", detail)

    def lost(self, loss: Loss, detail: str = "") -> None:
        """Count a request that will not arrive. Nothing is lost without this line and this number."""
        self._count(loss)
        self._say("forward_dropped", loss, detail)

    def _count(self, outcome: str) -> None:
        self._metrics.counter(
            "tokentide_ingest_forward_requests_total", queue=self._queue, outcome=outcome
        ).inc()

    def _say(self, event: str, outcome: str, detail: str) -> None:
        count = self._unsaid.pop(outcome, 0) + 1
        now = self._clock()
        if now - self._said_at.get(outcome, -_LOG_EVERY_S) < _LOG_EVERY_S:
            self._unsaid[outcome] = count
            return
        self._said_at[outcome] = now
        _log.warning(event, queue=self._queue, outcome=outcome, requests=count, detail=detail)
