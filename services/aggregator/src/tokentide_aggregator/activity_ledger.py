"""The ledger of activity: facts become series, a series rows of what each quarter of an hour adds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from tokentide_aggregator.activity_index import Known, index_row, known_of, known_series
from tokentide_aggregator.activity_people import names_its_person
from tokentide_aggregator.activity_rows import signed_rows
from tokentide_aggregator.activity_series import NOTHING, Series, joined, require_bounded, series_of
from tokentide_aggregator.fold import ConsumedRecord, DeadLetter, Folded, Group, fold
from tokentide_aggregator.ledger import Block, Change, Verdict
from tokentide_aggregator.notice import Notice
from tokentide_common.activity import ActivityFact, decode_fact, encode_fact
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST
from tokentide_common.store import Store
from tokentide_common.topics import ACTIVITY

_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_UNKNOWN: Final = Known(0, NOTHING)
_key_of: Final = attrgetter("org_id", "series_id")
FoldedSeries = Group[ActivityFact]


class ActivityLedger:
    """Activity: joined by maximum, never priced, never a part of usage."""

    table = "activity"
    index = "activity_seen"

    def __init__(self, *, topic: str = ACTIVITY) -> None:
        self.topic = topic

    def fold(self, records: Sequence[ConsumedRecord]) -> Folded[ActivityFact]:
        """Decode every record and group the facts by series; unreadable ones become dead letters."""
        return fold(records, _fact, _key_of)

    async def known(self, store: Store, asked: Mapping[bytes, FoldedSeries]) -> dict[bytes, Known]:
        """Return the states of the series that are counted."""
        return await known_series(store, list(asked))

    def keep(self, change: Change) -> bytes:
        """Return the series' row of the index, which holds its state."""
        return change.index

    def recall(self, kept: bytes, asked: FoldedSeries) -> Known:
        """Return a kept state."""
        return known_of(kept)

    def build(self, groups: Mapping[bytes, FoldedSeries], known: Mapping[bytes, Known]) -> Block:
        """Join each series with what is known of it and return what moves."""
        changes: list[Change] = []
        verdicts: list[Verdict] = []
        dead: list[DeadLetter] = []
        noticed = Notice()
        for series, group in groups.items():
            for fact in group.events:
                noticed.hear(fact)
            before = known.get(series, _UNKNOWN)
            now, said, refused = _joined(before.series, group)
            verdicts.extend(said)
            dead.extend(refused)
            # Also where nothing changes: what a crash kept from being published is published by the replay.
            if not names_its_person(now) and (session_id := now.labels.get("session_id")):
                noticed.series[group.key[0], session_id].add(group.key[1])
            if now != before.series:
                back, rows = signed_rows(group.key, before.series, now)
                index = index_row(series, Known(before.version + 1, now))
                changes.append(Change(series, index, b"\n".join(rows), b"\n".join(back) or None))
        return Block(changes, verdicts, set(), dead, noticed)

    def days(self, _changes: Sequence[Change]) -> set[tuple[str, int]]:
        """Return nothing: nobody ranks activity."""
        return set()


def _joined(before: Series, group: FoldedSeries) -> tuple[Series, list[Verdict], list[DeadLetter]]:
    """Join a series' facts one by one, so that each gets the verdict of its own effect."""
    state = before
    verdicts: list[Verdict] = []
    dead: list[DeadLetter] = []
    for position, fact in enumerate(group.events):
        waiting = group.waiting.get(position) if group.waiting else None
        after = joined(state, series_of(fact))
        try:
            require_bounded(after)
        except InvalidEvent as exc:
            digest = hashlib.sha256(encode_fact(fact)).hexdigest()
            dead.append(DeadLetter(group.offset, exc.stable_code, digest, waiting))
            continue
        if waiting is not None:
            verdicts.append(Verdict(waiting, _verdict(state, after)))
        state = after
    return state, verdicts, dead


def _verdict(before: Series, after: Series) -> str:
    if after == before:
        return "duplicate"
    return "counted" if before == NOTHING else "upgraded"


def _fact(value: bytes | None) -> ActivityFact:
    if value is None:
        raise InvalidEvent("a tombstone is not a fact", code="empty_record")
    fact = decode_fact(value)
    if not fact.org_id:
        raise InvalidEvent("no organisation was stamped on the fact", code="no_organization")
    # Not "now", or a replay could judge a record differently.
    if not EARLIEST <= fact.at < _LATEST:
        raise InvalidEvent("a time is out of range", code="timestamp_out_of_range")
    return fact
