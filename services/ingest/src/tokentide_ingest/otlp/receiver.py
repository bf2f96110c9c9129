"""One export from its body to its outcome, whichever transport it came over."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

from tokentide_common.accounts import KeyRecord
from tokentide_common.database import utc_now
from tokentide_common.metrics import Metrics
from tokentide_common.tag_bound import TagBound
from tokentide_common.topics import ACTIVITY, USAGE
from tokentide_common.verdicts import REJECTED
from tokentide_ingest.dispatch import Dispatch, Parcel
from tokentide_ingest.otlp.answers import Encoding, Outcome
from tokentide_ingest.otlp.export import Export, TagAttributes, read_export
from tokentide_ingest.otlp.forward_wire import Signal, WireRequest
from tokentide_ingest.otlp.unpacking import unpacked

# Larger ones are read in a thread, so that the others are answered meanwhile; and one at a time, since what
# is read takes a multiple of its bytes.
_LARGE_BODY_BYTES: Final = 256 * 1024
_NOT_STORED: Final = "what was read could not be stored: it is among the dead letters"


class OtlpReceiver:
    """Receives exports of telemetry."""

    def __init__(
        self,
        dispatch: Dispatch,
        metrics: Metrics,
        *,
        tags: TagAttributes,
        tag_values: int,
        max_bytes: int,
    ) -> None:
        self._dispatch = dispatch
        self._tags = tags
        self._bound = TagBound(metrics, source="otlp", values=tag_values)
        self._max_bytes = max_bytes
        self._reading_large = asyncio.Lock()
        self._accepted = metrics.counter("tokentide_ingest_events_total", source="otlp", outcome="accepted")
        self._rejected = metrics.counter("tokentide_ingest_events_total", source="otlp", outcome="rejected")

    async def take(self, signal: Signal, body: bytes, encoding: Encoding, key: KeyRecord) -> Outcome:
        """Return once everything accepted is on the topics, and stored where the broker keeps nothing.

        Raises `InvalidRequest` when the body is unreadable as a whole, `Unavailable` when nothing is sure.
        """
        export = await self._read(signal, body, encoding, key)
        del body  # the records are all that has to live until the broker has them
        events, facts = len(export.events), len(export.facts)
        parcels = [
            Parcel(USAGE, export.events, range(events)),
            Parcel(ACTIVITY, export.facts, range(events, events + facts)),
        ]
        # The guarantee: what is answered as accepted is on the topics; embedded, it is stored.
        verdicts = await self._dispatch.hand_over(uuid.uuid4().hex, parcels)
        dead = [index for index, verdict in (verdicts or {}).items() if verdict == REJECTED]
        if dead:
            export.reject(export.records_of(dead), [_NOT_STORED])
        self._accepted.inc(events + facts - len(dead))
        self._rejected.inc(export.rejected)
        return Outcome(events, facts, export.rejected, tuple(export.reasons))

    async def intake(self, signal: Signal, request: WireRequest, key: KeyRecord) -> None:
        """Take a request that was kept as it came; raises what `take` raises."""
        body, encoding = unpacked(request, self._max_bytes)
        await self.take(signal, body, encoding, key)

    async def _read(self, signal: Signal, body: bytes, encoding: Encoding, key: KeyRecord) -> Export:
        if len(body) <= _LARGE_BODY_BYTES:
            return self._export(signal, body, encoding, key)
        async with self._reading_large:
            return await asyncio.to_thread(self._export, signal, body, encoding, key)

    def _export(self, signal: Signal, body: bytes, encoding: Encoding, key: KeyRecord) -> Export:
        return read_export(
            signal, body, encoding, key, now=utc_now(), tags=self._tags, keep_tags=self._bound.kept
        )
