"""What the doors have in common: who comes in, what becomes of an export, and the one line about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import msgspec
import structlog

from tokentide_common.accounts import KeyRecord
from tokentide_common.errors import Retryable, TokentideError
from tokentide_common.metrics import Metrics
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.otlp.answers import Encoding, Outcome
from tokentide_ingest.otlp.forward_wire import WireAnswer, WireRequest
from tokentide_ingest.otlp.identity_of_sender import Senders
from tokentide_ingest.otlp.receiver import OtlpReceiver
from tokentide_ingest.otlp.signals import Address
from tokentide_ingest.otlp.tee import Tee

_log = structlog.get_logger(__name__)


class Visit(msgspec.Struct):
    """One request at a door, for its line in the log."""

    address: Address
    transport: Literal["http", "grpc"]
    started: float = msgspec.field(default_factory=time.perf_counter)
    key: KeyRecord | None = None
    body_bytes: int = 0
    outcome: Outcome = Outcome()
    relayed: bool = False
    code: str = ""


class Reception:
    """Serves both doors."""

    def __init__(
        self,
        senders: Senders,
        receiver: OtlpReceiver,
        tee: Tee,
        budget: ByteBudget,
        metrics: Metrics,
    ) -> None:
        self._senders = senders
        self._receiver = receiver
        self._tee = tee
        self._metrics = metrics
        self.budget = budget

    async def admit(self, visit: Visit, headers: Mapping[str, str], peer: str) -> None:
        """Find out whom the visit speaks for, before anything is read of what it says."""
        visit.key = await self._senders.admit(headers, peer)

    def forwards(self, visit: Visit) -> bool:
        """Return whether a request is wanted as it came, for a collector behind us."""
        return self._tee.wants(visit.address.signal, grpc=visit.transport == "grpc")

    @property
    def relays(self) -> bool:
        """Whether the collector's answer to what is forwarded is the client's answer."""
        return self._tee.mode == "proxy"

    async def relay(self, visit: Visit, request: WireRequest) -> WireAnswer:
        """Return the collector's answer; our own copy is taken in aside. Raises `Unavailable`."""
        assert visit.key is not None
        visit.body_bytes = len(request.body)
        visit.relayed = True
        return await self._tee.relay(visit.address.signal, request, visit.key)

    async def mirror(self, visit: Visit, request: WireRequest) -> None:
        """Keep a copy for the collector."""
        assert visit.key is not None
        await self._tee.mirror(visit.address.signal, request, visit.key)

    async def respond(
        self, visit: Visit, body: bytes, encoding: Encoding, request: WireRequest | None = None
    ) -> Outcome:
        """Take an export and return what came of it; a collector behind us gets `request`, if it is given.

        Raises what the receiver raises.
        """
        assert visit.key is not None
        visit.body_bytes = len(body)
        taking = self._receiver.take(visit.address.signal, body, encoding, visit.key)
        del body  # the receiver lets go of it once it is read
        try:
            visit.outcome = await taking
        except Retryable:
            raise  # the client sends it again, and the collector gets that
        except TokentideError:
            if request is not None:
                await self.mirror(visit, request)  # what we cannot read the collector may
            raise
        if request is not None:
            await self.mirror(visit, request)
        return visit.outcome

    def failed(self, visit: Visit, error: Exception) -> None:
        """Note why a request is refused."""
        if isinstance(error, TokentideError):
            visit.code = error.stable_code
            return
        visit.code = TokentideError.code
        _log.error("telemetry_failed", signal=visit.address.signal, exc_info=error)

    def finished(self, visit: Visit, status: str) -> None:
        """Count a request that is answered, and write its line."""
        route = visit.address.path if visit.transport == "http" else visit.address.grpc_service
        self._metrics.counter("tokentide_ingest_requests_total", route=route, status=status).inc()
        self._metrics.histogram("tokentide_ingest_request_duration_seconds", route=route).observe(
            time.perf_counter() - visit.started
        )
        _log.info(
            "telemetry_answered",
            signal=visit.address.signal,
            transport=visit.transport,
            status=status,
            code=visit.code,
            org_id=visit.key.org_id if visit.key else "",
            bytes=visit.body_bytes,
            events=visit.outcome.events,
            facts=visit.outcome.facts,
            rejected=visit.outcome.rejected,
            relayed=visit.relayed,
        )
