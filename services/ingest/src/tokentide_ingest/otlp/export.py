"""An export request becomes records for the topics: bytes, key and time in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tokentide_common.accounts import KeyRecord
from tokentide_common.activity import encode_fact
from tokentide_common.broker import Record
from tokentide_common.events import encode_event
from tokentide_common.tag_bound import KeepTags, every_tag
from tokentide_ingest.otlp.answers import Encoding
from tokentide_ingest.otlp.decoding import decode_logs, decode_metrics, decode_traces
from tokentide_ingest.otlp.forward_wire import Signal
from tokentide_ingest.otlp.kept import KEPT
from tokentide_ingest.otlp.mapped import Mapped
from tokentide_ingest.otlp.mapping import map_logs, map_spans
from tokentide_ingest.otlp.points import map_points
from tokentide_ingest.otlp.telemetry import Decoded
from tokentide_ingest.stamp import defaults_of, stamp

_MAX_REASONS: Final = 10
TagAttributes = Mapping[str, str]
"""Attribute → tag."""


class Export(msgspec.Struct):
    """What a request holds: records by topic, and what of it was refused."""

    events: list[Record]
    facts: list[Record]
    told_by: list[int]
    """For each fact which record of the request tells it."""
    rejected: int = 0
    reasons: list[str] = []

    def records_of(self, indices: Iterable[int]) -> int:
        """Return how many records of the request these events and facts are from, by index.

        The facts' indices go on from those of the events, of which each is all that its record tells.
        """
        events = len(self.events)
        return len({(i, -1) if i < events else (-1, self.told_by[i - events]) for i in indices})

    def reject(self, count: int, reasons: Iterable[str]) -> None:
        """Count what is refused and keep why: each reason once, and few."""
        self.rejected += count
        new = [reason for reason in reasons if reason not in self.reasons]
        self.reasons = [*self.reasons, *new][:_MAX_REASONS]


def tags_of(setting: Iterable[str]) -> TagAttributes:
    """Return the tag of each attribute that the setting names: `attribute` or `attribute=tag`."""
    pairs = (entry.partition("=") for entry in setting)
    return {attribute: tag or attribute for attribute, _, tag in pairs}


def read_export(
    signal: Signal,
    body: bytes,
    encoding: Encoding,
    key: KeyRecord,
    *,
    now: datetime,
    tags: TagAttributes,
    keep_tags: KeepTags = every_tag,
) -> Export:
    """Decode a request, map it to events and facts, and stamp them with what the key stands for.

    Raises `InvalidRequest` when the body as a whole is unreadable.
    """
    decoded, mapped = _read(signal, body, encoding, now, tags)
    export = Export([], [], mapped.told_by)
    export.reject(decoded.rejected, decoded.reasons)
    export.reject(mapped.rejected, mapped.reasons)
    defaults = defaults_of(key)
    for event in mapped.events:
        if event.observed_at is None:
            event.observed_at = now
        stamp(event, key, defaults)
        if event.tags:
            event.tags = keep_tags(key.org_id, event.tags)
        export.events.append(Record(event.call_id.encode(), encode_event(event)))
    for fact in mapped.facts:
        stamp(fact, key, defaults)
        if fact.tags:
            fact.tags = keep_tags(key.org_id, fact.tags)
        export.facts.append(Record(fact.series_id.encode(), encode_fact(fact)))
    return export


def _read(
    signal: Signal, body: bytes, encoding: Encoding, now: datetime, tags: TagAttributes
) -> tuple[Decoded[Any], Mapped]:
    kept = KEPT.union(tags)
    match signal:
        case "logs":
            logs = decode_logs(body, encoding, kept)
            return logs, map_logs(logs.items, now, tags)
        case "metrics":
            points = decode_metrics(body, encoding, kept)
            return points, map_points(points.items, now, tags)
        case "traces":
            spans = decode_traces(body, encoding, kept)
            return spans, map_spans(spans.items, now, tags)
