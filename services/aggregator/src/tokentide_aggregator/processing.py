"""One batch of one partition, from records to visible numbers: the six steps that count exactly once.

    1 claim    where the batch ends is decided once, by whoever claims it first
    2 fold     records become calls, unreadable ones dead letters
    3 look up  what is already counted of these calls
    4 insert   one block of +1 and -1 rows with its views, under a token that names these very records
    5 seen     the index of counted calls
    6 publish  dead letters, verdicts, touched days; the caller then commits the offset

A crash or a stalled twin at any point repeats the same records, hence the same token (1), over the same
`seen` (5 comes after 4): step 4 then completes what is missing in any table and changes nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final, TypeVar

import msgspec
import numpy as np

from tokentide_aggregator.block import Block, CallChange, Price, Verdict, build
from tokentide_aggregator.dead_letters import dead_letter_records
from tokentide_aggregator.failpoints import Failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.fold import ConsumedRecord, DeadLetter, Folded, fingerprint, fold
from tokentide_aggregator.known import known_rows
from tokentide_aggregator.recent import RecentRows
from tokentide_aggregator.retry import until_available
from tokentide_aggregator.rows import LedgerRow, decode_row
from tokentide_common.broker import Publisher, Record
from tokentide_common.claims import claim, forget_claims
from tokentide_common.database import Engine
from tokentide_common.errors import InvalidEvent, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store
from tokentide_common.topics import DEAD_LETTERS, PERIODS, VERDICTS, PeriodsTouched, Verdicts

T = TypeVar("T")
_TIDY_EVERY: Final = 500
_SEEN_DTYPE: Final = np.dtype([("call_hash", "V16"), ("version", "<u4"), ("occurred_ms", "<i8")])


class MoreNeeded(Exception):
    """The batch was claimed to end at `end`, beyond the records in hand."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class Outcome(msgspec.Struct, frozen=True):
    """What a batch came to; `end` is the offset to commit."""

    end: int
    records: int
    dead: list[DeadLetter]
    block: Block


class Processor:
    """Runs batches of one topic; everything it shares between partitions is safe to share."""

    def __init__(
        self,
        *,
        topic: str,
        store: Store,
        engine: Engine,
        publisher: Publisher,
        price: Price,
        price_version: str,
        counted: CountedCalls,
        metrics: Metrics,
        failpoint: Failpoint,
    ) -> None:
        self._topic = topic
        self._store = store
        self._engine = engine
        self._publisher = publisher
        self._price = price
        self._price_version = price_version
        self._counted = counted
        self._metrics = metrics
        self._failpoint = failpoint
        self._commits = 0

    async def fold(
        self, partition: int, records: Sequence[ConsumedRecord]
    ) -> tuple[Sequence[ConsumedRecord], Folded]:
        """Steps 1 and 2: return the records of the claimed batch, and what they say."""
        start, end = records[0].offset, records[-1].offset + 1
        # Put-if-absent, before anything is written: a dead or stalled owner's boundary is obeyed,
        # so the same start always means the same records and the same token.
        agreed = await self._timed(
            "claim",
            lambda: asyncio.to_thread(
                claim, self._engine, self._topic, partition, start, fingerprint(records[:1]), end
            ),
        )
        if agreed > end:
            raise MoreNeeded(agreed)
        if agreed < end:
            self._metrics.counter("tokentide_aggregator_boundaries_obeyed_total").inc()
            records = [r for r in records if r.offset < agreed]
        self._failpoint("after_claim")
        # In a thread: a large batch must not keep the loop from its heartbeats and, embedded, its requests.
        return records, await self._timed("fold", lambda: asyncio.to_thread(fold, records))

    async def store(
        self,
        partition: int,
        records: Sequence[ConsumedRecord],
        folded: Folded,
        recent: RecentRows,
        owns: Callable[[], None],
    ) -> Outcome:
        """Steps 3 to 5. `owns` raises when the partition is no longer ours."""
        known = await self._timed("lookup", lambda: self._known(partition, folded, recent))
        block = await self._timed(
            "merge", lambda: asyncio.to_thread(build, folded.calls, known, self._price, self._price_version)
        )
        start, end = records[0].offset, records[-1].offset + 1
        token = f"{self._topic}-{partition}-{start}-{end}-{fingerprint(records)}"
        owns()
        self._failpoint("before_insert")
        kept = await self._timed("insert", lambda: self._insert(block.changes, token))
        self._failpoint("after_insert")
        await self._timed("seen", lambda: self._remember(kept, recent))
        self._failpoint("after_seen")
        return Outcome(end, len(records), [*folded.dead, *_refused(folded, block.changes, kept)], block)

    async def publish(self, partition: int, outcome: Outcome) -> None:
        """Step 6, before the commit: whoever waits, ranks or repairs hears of it at least once."""
        if outcome.dead:
            letters = dead_letter_records(self._topic, partition, outcome.dead)
            await until_available("publish", lambda: self._publisher.publish(DEAD_LETTERS, letters))
            for letter in outcome.dead:
                self._metrics.counter("tokentide_dlq_events_total", reason=letter.reason).inc()
        verdicts = _verdict_records(outcome)
        if verdicts:
            await until_available("publish", lambda: self._publisher.publish(VERDICTS, verdicts))
        days = _period_records(outcome.block)
        if days:
            await until_available("publish", lambda: self._publisher.publish(PERIODS, days))
        self._failpoint("after_publish")

    async def committed(self, partition: int, end: int) -> None:
        """Take note that everything before `end` is committed: old claims are not needed any more."""
        self._failpoint("after_commit")
        self._commits += 1
        if self._commits % _TIDY_EVERY == 0:
            with contextlib.suppress(Unavailable):  # the next time will do
                await asyncio.to_thread(forget_claims, self._engine, self._topic, partition, end)

    async def _known(self, partition: int, folded: Folded, recent: RecentRows) -> dict[bytes, LedgerRow]:
        hashes = list(folded.calls)
        if self._counted.covers(partition):
            hashes = [hashes[i] for i in self._counted.maybe(b"".join(hashes))]
        known: dict[bytes, LedgerRow] = {}
        asked = {}
        for call in hashes:
            row = recent.get(call)
            if row is not None:
                known[call] = decode_row(row)
            else:
                asked[call] = folded.calls[call].key
        if asked:
            found = await until_available("lookup", lambda: known_rows(self._store, asked))
            self._metrics.counter("tokentide_aggregator_lookups_total", result="known").inc(len(found))
            self._metrics.counter("tokentide_aggregator_lookups_total", result="unknown").inc(
                len(asked) - len(found)
            )
            known |= found
        return known

    async def _insert(self, changes: Sequence[CallChange], token: str) -> Sequence[CallChange]:
        """Insert a block and return what the store took of it: all, or all but calls it cannot read."""
        if not changes:
            return changes
        rows = [row for change in changes for row in (change.taken_back, change.row) if row is not None]
        data = b"\n".join(rows)
        try:
            # Exactly once: the same bytes under the same token, however often and by whomever, until the
            # store says yes. Ledger and views each know the token, so a partial insert completes.
            await until_available("insert", lambda: self._store.insert("ledger", data, token=token))
        except InvalidEvent:
            return await self._insert_halves(changes, token)
        self._metrics.histogram("tokentide_clickhouse_insert_rows", table="ledger").observe(len(rows))
        return changes

    async def _insert_halves(self, changes: Sequence[CallChange], token: str) -> Sequence[CallChange]:
        """The store cannot read a block that we took for valid: find the call, keep its neighbours.

        The halves are the same at every replay, with tokens of their own; of the whole nothing was written.
        """
        if len(changes) == 1:
            return []
        middle = len(changes) // 2
        first = await self._insert(changes[:middle], f"{token}/0")
        second = await self._insert(changes[middle:], f"{token}/1")
        return [*first, *second]

    async def _remember(self, changes: Sequence[CallChange], recent: RecentRows) -> None:
        if not changes:
            return
        hashes = b"".join([change.call for change in changes])
        rows = np.empty(len(changes), dtype=_SEEN_DTYPE)
        rows["call_hash"] = np.frombuffer(hashes, dtype="V16")
        rows["version"] = [change.version for change in changes]
        rows["occurred_ms"] = [round(change.occurred_at.timestamp() * 1000) for change in changes]
        # Repeatable without a token: the table keeps the highest version of a call.
        await until_available("seen", lambda: self._store.insert("seen", rows.tobytes(), fmt="RowBinary"))
        # Only now: what the filter and the recent rows claim to know must be what `seen` knows.
        self._counted.add(hashes)
        recent.remember(changes)

    async def _timed(self, stage: str, work: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        done = await work()
        seconds = time.monotonic() - started
        self._metrics.histogram("tokentide_aggregator_stage_duration_seconds", stage=stage).observe(seconds)
        return done


def _refused(folded: Folded, changes: Sequence[CallChange], kept: Sequence[CallChange]) -> list[DeadLetter]:
    if len(kept) == len(changes):
        return []
    stored = {change.call for change in kept}
    return [
        DeadLetter(folded.calls[c.call].offset, "block_rejected", hashlib.sha256(c.row).hexdigest(), None)
        for c in changes
        if c.call not in stored
    ]


def _verdict_records(outcome: Outcome) -> list[Record]:
    rejected = [Verdict(letter.waiting, "rejected") for letter in outcome.dead if letter.waiting]
    grouped: dict[tuple[bytes, str], list[tuple[int, str]]] = defaultdict(list)
    for waiting, verdict in (*outcome.block.verdicts, *rejected):
        grouped[waiting.reply_to, waiting.batch].append((waiting.position, verdict))
    return [
        Record(key=reply_to, value=msgspec.json.encode(Verdicts(batch, said)))
        for (reply_to, batch), said in grouped.items()
    ]


def _period_records(block: Block) -> list[Record]:
    days: dict[str, list[str]] = defaultdict(list)
    for org_id, ordinal in sorted(block.days):
        days[org_id].append(date.fromordinal(ordinal).isoformat())
    return [
        Record(key=org_id.encode(), value=msgspec.json.encode(PeriodsTouched(org_id, touched)))
        for org_id, touched in days.items()
    ]
