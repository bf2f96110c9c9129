"""Facts about limits as rows of which the greatest counts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from tokentide_aggregator.fold import ConsumedRecord, DeadLetter
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST
from tokentide_common.limit_facts import LimitFact, decode_limit_fact, gauge_of, sortable

COLUMNS: Final = ("org_id", "provider", "account", "model", "kind", "observed_at", "latest")
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_encoder: Final = msgspec.json.Encoder()


def rows_of(records: Iterable[ConsumedRecord]) -> tuple[list[bytes], list[DeadLetter]]:
    """Return a row (JSON) for each limit, by the newest fact on it, and what could not be read.

    The greatest text wins here as it does in the table: any order and any repeats come to the same row.
    """
    greatest: dict[tuple[str, ...], str] = {}
    observed: dict[str, int] = {}
    dead: list[DeadLetter] = []
    for record in records:
        try:
            fact = _fact(record.value)
        except InvalidEvent as exc:
            digest = hashlib.sha256(record.value or b"").hexdigest()
            dead.append(DeadLetter(record.offset, exc.stable_code, digest, None))
            continue
        gauge, text = gauge_of(fact), sortable(fact)
        greatest[gauge] = max(text, greatest.get(gauge, ""))
        observed[text] = int(fact.observed_at.timestamp())
    rows = [
        _encoder.encode(dict(zip(COLUMNS, (*gauge, observed[text], text), strict=True)))
        for gauge, text in greatest.items()
    ]
    return rows, dead


def _fact(value: bytes | None) -> LimitFact:
    if value is None:
        raise InvalidEvent("a tombstone is not a fact", code="empty_record")
    fact = decode_limit_fact(value)
    if not fact.org_id:
        raise InvalidEvent("no organisation was stamped on the fact", code="no_organization")
    # Not "now", or a replay could judge a record differently.
    if not EARLIEST <= fact.observed_at < _LATEST:
        raise InvalidEvent("a time is out of range", code="timestamp_out_of_range")
    return fact
