"""Passes telemetry on to the user's own collector, byte for byte, in one of two ways.

Mirror: we answer, and the copy waits on disk until the collector has it. Proxy: the collector answers, and
our own copy waits on disk until we have taken it in.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import Retryable, TokentideError, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_collector import SIGNALS, Collector
from tokentide_ingest.otlp.forward_delivery import Courier
from tokentide_ingest.otlp.forward_outcomes import Outcomes
from tokentide_ingest.otlp.forward_queue import DiskQueue
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_verdict import DELIVERED, Verdict
from tokentide_ingest.otlp.forward_wire import HeaderRules, Signal, WireAnswer, WireRequest

Intake = Callable[[Signal, WireRequest, KeyRecord], Awaitable[None]]
"""Takes a raw request in as our own; raises `Retryable` where a later try can help."""

# Senders that share a lane wait for each other, so that each one's requests stay in order; a signal whose
# collector is away does not hold the others.
_LANES_OF_A_SIGNAL: Final = 8
_LANES: Final = _LANES_OF_A_SIGNAL * len(SIGNALS)
_log = structlog.get_logger(__name__)


class Copy(msgspec.Struct, frozen=True, array_like=True):
    """What waits on disk. `key` says whose it is, and is no key."""

    signal: Signal
    request: WireRequest
    key: KeyRecord | None = None


class Tee:
    """The way to the collector. Without a collector in the settings it wants nothing and opens nothing."""

    def __init__(self, settings: ForwardSettings, metrics: Metrics, intake: Intake) -> None:
        self._rules = HeaderRules.read(settings.otlp_forward_headers, settings.otlp_forward_drop_headers)
        self._collector = Collector(settings, self._rules.add)
        self._intake = intake
        self._relayed = Outcomes(metrics, "relay")
        urls = (
            settings.otlp_forward_url,
            settings.otlp_forward_logs_url,
            settings.otlp_forward_metrics_url,
            settings.otlp_forward_traces_url,
            settings.otlp_forward_grpc_url,
        )
        self.mode: Literal["off", "mirror", "proxy"] = settings.otlp_forward_mode if any(urls) else "off"
        queue: Literal["mirror", "aside"] = "mirror" if self.mode == "mirror" else "aside"
        self._outcomes = Outcomes(metrics, queue)
        self._queue = DiskQueue(
            Path(settings.otlp_forward_queue_dir) / queue,
            lanes=_LANES,
            max_bytes=settings.otlp_forward_queue_bytes,
            dropped=self._outcomes.lost,
        )
        self._courier = Courier(
            self._queue,
            self._forward if self.mode == "mirror" else self._take_in,
            self._outcomes,
            lanes=_LANES,
            max_age_s=settings.otlp_forward_max_age_s,
        )
        if self.mode != "off":
            held_bytes = metrics.gauge("tokentide_ingest_forward_queue_bytes", queue=queue)
            held_bytes.set_function(lambda: self._queue.held_bytes)
            held = metrics.gauge("tokentide_ingest_forward_queue_requests", queue=queue)
            held.set_function(lambda: self._queue.held_requests)

    def wants(self, signal: Signal, *, grpc: bool) -> bool:
        """Return whether requests of this kind go on to a collector."""
        return self._collector.takes(signal, grpc=grpc)

    async def start(self) -> None:
        """Begin to empty the queue; what the last process left comes first."""
        if self.mode != "off":
            await self._courier.start()

    async def stop(self) -> None:
        """Stop; what waits stays on disk for the next start."""
        if self.mode != "off":
            await self._courier.stop()
        await self._collector.close()

    async def mirror(self, signal: Signal, request: WireRequest, key: KeyRecord) -> None:
        """Keep a copy for the collector. Waits for our own disk only, and no failure of it gets out."""
        copy = Copy(signal, self._without_secrets_of_ours(request))
        await self._queue.append(_lane(signal, key), msgspec.msgpack.encode(copy))

    async def relay(self, signal: Signal, request: WireRequest, key: KeyRecord) -> WireAnswer:
        """Return the collector's answer once our own copy is on disk; raises `Unavailable` without one."""
        request = self._without_secrets_of_ours(request)
        aside = asyncio.create_task(self._keep_aside(Copy(signal, request, key)))
        try:
            answer = await self._collector.send(signal, request)
        except Unavailable as error:
            self._relayed.later(error.detail)
            raise
        finally:
            # The guarantee: the client hears of success only when our copy outlives this process too. The
            # copy's own failure is counted and changes nothing for the client.
            await asyncio.shield(aside)
        self._relayed.delivered()
        return answer

    async def _keep_aside(self, copy: Copy) -> None:
        assert copy.key is not None
        kept = await self._queue.append(_lane(copy.signal, copy.key), msgspec.msgpack.encode(copy))
        if not kept:
            # The disk does not take it: the last chance is to take it in at once.
            verdict = await self._taken_in(copy.signal, copy.request, copy.key)
            _log.warning("forward_taken_in_without_disk", outcome=verdict.kind, detail=verdict.detail)

    async def _forward(self, data: bytes) -> Verdict:
        copy = msgspec.msgpack.decode(data, type=Copy)
        return await self._collector.attempt(copy.signal, copy.request)

    async def _take_in(self, data: bytes) -> Verdict:
        copy = msgspec.msgpack.decode(data, type=Copy)
        assert copy.key is not None
        return await self._taken_in(copy.signal, copy.request, copy.key)

    async def _taken_in(self, signal: Signal, request: WireRequest, key: KeyRecord) -> Verdict:
        try:
            await self._intake(signal, request, key)
        except Retryable as error:
            return Verdict("later", error.stable_code, error.retry_after_s)
        except TokentideError as error:
            return Verdict("refused", error.stable_code)
        except Exception:
            # A mistake of ours, which must reach neither the client's answer nor what waits behind.
            _log.exception("forward_intake_failed")
            return Verdict("refused", "failed")
        return DELIVERED

    def _without_secrets_of_ours(self, request: WireRequest) -> WireRequest:
        return msgspec.structs.replace(request, headers=self._rules.kept(request.headers))


def _lane(signal: Signal, key: KeyRecord) -> int:
    return SIGNALS.index(signal) * _LANES_OF_A_SIGNAL + zlib.crc32(key.key_id.encode()) % _LANES_OF_A_SIGNAL
