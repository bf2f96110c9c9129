"""Counts events that are lost, and raises the alarm: at once, then once a minute while it goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Literal

import structlog

from tokentide_common.metrics import Metrics

DropReason = Literal["buffer_full", "spool_full", "disk_error", "damaged", "invalid", "stopped"]
ALARM_EVERY_S: Final = 60.0
_log = structlog.get_logger(__name__)


class Drops:
    """The losses of one tap. Counting costs a moment and is safe where nothing may wait."""

    def __init__(self, metrics: Metrics, *, alarm_every_s: float = ALARM_EVERY_S) -> None:
        self._metrics = metrics
        self._alarm_every_s = alarm_every_s
        self._unreported: Counter[str] = Counter()
        self._next: asyncio.Handle | None = None
        self._closed = False

    def count(self, reason: DropReason, events: int = 1) -> None:
        """Count events as lost."""
        self._metrics.counter("tokentide_proxy_events_dropped_total", reason=reason).inc(events)
        self._unreported[reason] += events
        if self._next is None and not self._closed:
            # Not here: whoever counts may stand between a client and its answer.
            self._next = asyncio.get_running_loop().call_soon(self._alarm)

    def close(self) -> None:
        """Report what is left to report, and no more after that."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        self._report()

    def _alarm(self) -> None:
        again = self._report()
        self._next = (
            asyncio.get_running_loop().call_later(self._alarm_every_s, self._alarm) if again else None
        )

    def _report(self) -> bool:
        lost, self._unreported = self._unreported, Counter()
        if lost:
            _log.error("usage_events_dropped", **lost)
        return bool(lost)
