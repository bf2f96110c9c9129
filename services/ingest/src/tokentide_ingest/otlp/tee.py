"""Passes telemetry on to the user's own collector, byte for byte, in one of two ways.

Mirror: we answer, and the copy waits on disk until the collector has it. Proxy: the collector answers, and
our own copy waits on disk until we have taken it in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import structlog

from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import Retryable, TokentideError, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_collector import Collector
from tokentide_ingest.otlp.forward_grpc import UNAVAILABLE
from tokentide_ingest.otlp.forward_line import Copy, Line
from tokentide_ingest.otlp.forward_outcomes import Outcomes
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_verdict import DELIVERED, Verdict
from tokentide_ingest.otlp.forward_wire import SIGNALS, HeaderRules, Signal, WireAnswer, WireRequest

Intake = Callable[[Signal, WireRequest, KeyRecord], Awaitable[None]]
"""Takes a raw request in as our own; raises `Retryable` where a later try can help."""

_log = structlog.get_logger(__name__)


class Tee:
    """The way to the collector. Without a collector in the settings it wants nothing and opens nothing."""

    def __init__(self, settings: ForwardSettings, metrics: Metrics, intake: Intake) -> None:
        self._rules = HeaderRules.read(settings.otlp_forward_headers, settings.otlp_forward_drop_headers)
        self._collector = Collector(settings, self._rules.add)
        self._intake = intake
        self._relayed = Outcomes(metrics, "relay")
        self._mirror = Line(settings, metrics, "mirror", self._forward)
        self._aside = Line(settings, metrics, "aside", self._take_in)
        forwards = any(self.wants(signal, grpc=True) for signal in SIGNALS)
        self.mode: Literal["off", "mirror", "proxy"] = settings.otlp_forward_mode if forwards else "off"

    def wants(self, signal: Signal, *, grpc: bool) -> bool:
        """Return whether requests of this kind go on to a collector."""
        return self._collector.takes(signal, grpc=grpc)

    async def start(self) -> None:
        """Begin to empty the queues; what the last process left comes first, whatever its mode was."""
        await self._mirror.open(used=self.mode == "mirror", delivers=self.mode != "off")
        await self._aside.open(used=self.mode == "proxy", delivers=True)

    async def stop(self) -> None:
        """Stop; what waits stays on disk for the next start."""
        await asyncio.gather(self._mirror.close(), self._aside.close())
        await self._collector.close()

    async def mirror(self, signal: Signal, request: WireRequest, key: KeyRecord) -> None:
        """Keep a copy for the collector. Waits for our own disk only, and no failure of it gets out."""
        await self._mirror.append(Copy(signal, self._to_pass_on(request), key))

    async def relay(self, signal: Signal, request: WireRequest, key: KeyRecord) -> WireAnswer:
        """Return the collector's answer once our own copy is on disk; raises `Unavailable` without one."""
        request = self._to_pass_on(request)
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
        if answer.grpc_status == UNAVAILABLE:
            self._relayed.later(f"gRPC {UNAVAILABLE}")
        else:
            self._relayed.delivered()
        return answer

    async def _keep_aside(self, copy: Copy) -> None:
        if not await self._aside.append(copy):
            # The disk does not take it: the last chance is to take it in at once.
            verdict = await self._taken_in(copy)
            _log.warning("forward_taken_in_without_disk", outcome=verdict.kind, detail=verdict.detail)

    async def _forward(self, data: bytes) -> Verdict:
        copy = msgspec.msgpack.decode(data, type=Copy)
        return await self._collector.attempt(copy.signal, copy.request)

    async def _take_in(self, data: bytes) -> Verdict:
        return await self._taken_in(msgspec.msgpack.decode(data, type=Copy))

    async def _taken_in(self, copy: Copy) -> Verdict:
        try:
            await self._intake(copy.signal, copy.request, copy.key)
        except Retryable as error:
            return Verdict("later", error.stable_code, error.retry_after_s)
        except TokentideError as error:
            return Verdict("refused", error.stable_code)
        except Exception:
            # A mistake of ours, which must reach neither the client's answer nor what waits behind.
            _log.exception("forward_intake_failed")
            return Verdict("refused", "failed")
        return DELIVERED

    def _to_pass_on(self, request: WireRequest) -> WireRequest:
        return msgspec.structs.replace(request, headers=self._rules.kept(request.headers))
