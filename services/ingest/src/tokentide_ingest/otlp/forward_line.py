"""A queue with what is needed around it: its bounds, its numbers, and who empties it."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from tokentide_common.accounts import KeyRecord
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_delivery import Courier, Deliver
from tokentide_ingest.otlp.forward_outcomes import Outcomes
from tokentide_ingest.otlp.forward_queue import DiskQueue, waits_in
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_wire import SIGNALS, Signal, WireRequest

# Senders that share a lane wait for each other, so that each one's requests stay in order; a signal whose
# collector is away does not hold the others.
_LANES_OF_A_SIGNAL: Final = 8
_LANES: Final = _LANES_OF_A_SIGNAL * len(SIGNALS)
_log = structlog.get_logger(__name__)


class Copy(msgspec.Struct, frozen=True, array_like=True):
    """What waits on disk. `key` says whose it is, and is no key."""

    signal: Signal
    request: WireRequest
    key: KeyRecord


class Line:
    """Copies on their way to one place; `name` is also that of the folder."""

    def __init__(
        self, settings: ForwardSettings, metrics: Metrics, name: Literal["mirror", "aside"], deliver: Deliver
    ) -> None:
        self._name = name
        self._metrics = metrics
        self._folder = Path(settings.otlp_forward_queue_dir) / name
        outcomes = Outcomes(metrics, name)
        self._queue = DiskQueue(
            self._folder,
            lanes=_LANES,
            max_bytes=settings.otlp_forward_queue_bytes,
            dropped=outcomes.lost,
        )
        self._courier = Courier(
            self._queue, deliver, outcomes, lanes=_LANES, max_age_s=settings.otlp_forward_max_age_s
        )
        self._open = False

    async def open(self, *, used: bool, delivers: bool) -> None:
        """Begin to empty the queue. One that is not `used` has only what was left from when it was."""
        left = used or await asyncio.to_thread(waits_in, self._folder)
        if left and not delivers:
            _log.warning("forward_queue_has_nowhere_to_go", queue=self._name)
        elif left:
            self._open = True
            held_bytes = self._metrics.gauge("tokentide_ingest_forward_queue_bytes", queue=self._name)
            held_bytes.set_function(lambda: self._queue.held_bytes)
            held = self._metrics.gauge("tokentide_ingest_forward_queue_requests", queue=self._name)
            held.set_function(lambda: self._queue.held_requests)
            await self._courier.start()

    async def close(self) -> None:
        """Stop; what waits stays on disk for the next start."""
        if self._open:
            await self._courier.stop()

    async def append(self, copy: Copy) -> bool:
        """Keep a copy, and say whether it is on disk. No failure of the disk gets out."""
        return await self._queue.append(_lane(copy), msgspec.msgpack.encode(copy))


def _lane(copy: Copy) -> int:
    of_sender = zlib.crc32(copy.key.key_id.encode()) % _LANES_OF_A_SIGNAL
    return SIGNALS.index(copy.signal) * _LANES_OF_A_SIGNAL + of_sender
