"""One batch of one partition, from records to visible numbers: the six steps that count exactly once.

    1 claim    where the batch ends is decided once, by whoever claims it first
    2 fold     records become calls, unreadable ones dead letters
    3 look up  what is already counted of these calls
    4 insert   one block of +1 and -1 rows with its views, under a token that names these very records
    5 seen     the index of counted calls; then what follows from these calls and others together
    6 publish  that, dead letters, verdicts, touched days; the caller then commits the offset

A crash or a stalled twin at any point repeats the same records, hence the same token (1), over the same
index (5 comes after 4): step 4 then completes what is missing in any table and changes nothing twice.
Where the broker forgets (embedded) nobody repeats the records, so the block itself is kept from before 4
until after 5.

What is particular to calls is in `CallLedger`; activity facts bring a `Ledger` of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
import structlog

from tokentide_aggregator.activity_links import ActivityLinks
from tokentide_aggregator.counted_feed import CountedFeed
from tokentide_aggregator.dead_letters import dead_letter_records
from tokentide_aggregator.failpoints import Failpoint
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.fold import ConsumedRecord, DeadLetter, Folded, Group, fingerprint
from tokentide_aggregator.ledger import Block, Change, E, K, Ledger, Verdict
from tokentide_aggregator.links import Concluded, Links
from tokentide_aggregator.recent import RecentRows
from tokentide_common.broker import Publisher, Record
from tokentide_common.claims import claim, forget_claims
from tokentide_common.database import Engine
from tokentide_common.errors import InvalidEvent, InvalidRequest, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_common.retry import until_available
from tokentide_common.store import Store
from tokentide_common.topics import ACTIVITY, DEAD_LETTERS, PERIODS, USAGE, VERDICTS, PeriodsTouched, Verdicts
from tokentide_common.unfinished import drop_block, keep_block, kept_blocks

T = TypeVar("T")
_TIDY_EVERY: Final = 500
# A token protects for as many inserts as the store remembers. Whoever was stalled or cut off for longer than
# this looks up again before it inserts: what a successor has counted meanwhile is then known.
LOOKUP_HOLDS_S: Final = 30.0
_changes: Final = msgspec.msgpack.Decoder(list[Change])
_log = structlog.get_logger(__name__)


class MoreNeeded(Exception):
    """The batch was claimed to end at `end`, beyond the records in hand."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class _Outdated(Exception):
    """What was looked up is too old to insert a block that was built on it."""


class Claimed(NamedTuple, Generic[E]):
    """The records of a claimed batch, what they say, and whether nobody can have counted them before."""

    records: Sequence[ConsumedRecord]
    folded: Folded[E]
    anew: bool


class Outcome(msgspec.Struct, frozen=True):
    """What a batch came to; `end` is the offset to commit."""

    end: int
    records: int
    dead: list[DeadLetter]
    block: Block
    concluded: Concluded = Concluded()


class Processor(Generic[E, K]):
    """Runs batches of one kind of record; everything it shares between partitions is safe to share."""

    def __init__(
        self,
        *,
        ledger: Ledger[E, K],
        store: Store,
        engine: Engine,
        publisher: Publisher,
        counted: CountedCalls,
        metrics: Metrics,
        failpoint: Failpoint,
        links: Links | ActivityLinks | None = None,
        feed: CountedFeed | None = None,
    ) -> None:
        self._links, self._feed = links, feed
        self._ledger = ledger
        self.topic = ledger.topic
        self._store = store
        self._engine = engine
        self._publisher = publisher
        self._counted = counted
        self._metrics = metrics
        self._failpoint = failpoint
        self._commits: dict[int, int] = defaultdict(int)

    async def fold(self, partition: int, records: Sequence[ConsumedRecord]) -> Claimed[E]:
        """Steps 1 and 2: return the records of the claimed batch, and what they say."""
        start, end = records[0].offset, records[-1].offset + 1
        # Put-if-absent, before anything is written: a dead or stalled owner's boundary is obeyed,
        # so the same start always means the same records and the same token.
        agreed, anew = await self._timed(
            "claim",
            lambda: asyncio.to_thread(
                claim, self._engine, self.topic, partition, start, fingerprint(records[:1]), end
            ),
        )
        if agreed > end:
            raise MoreNeeded(agreed)
        if agreed < end:
            self._metrics.counter("tokentide_aggregator_boundaries_obeyed_total").inc()
            records = [r for r in records if r.offset < agreed]
        self._failpoint("after_claim")
        # In a thread: a large batch must not keep the loop from its heartbeats and, embedded, its requests.
        folded = await self._timed("fold", lambda: asyncio.to_thread(self._ledger.fold, records))
        return Claimed(records, folded, anew)

    async def store(
        self,
        partition: int,
        claimed: Claimed[E],
        recent: RecentRows,
        owns: Callable[[], None],
        *,
        sure: bool = True,
        keep: bool = False,
    ) -> Outcome:
        """Steps 3 to 5. `owns` raises when the partition is no longer ours.

        `sure`: nobody else can have counted since the filter and `recent` were right.
        `keep`: the broker forgets, so a block in work must not.
        """
        records, folded, anew = claimed
        start, end = records[0].offset, records[-1].offset + 1
        token = f"{self.topic}-{partition}-{start}-{end}-{fingerprint(records)}"
        memory = recent if sure else None
        while True:
            try:
                block, kept = await self._count(partition, folded, token, memory, owns, keep=keep)
                break
            except _Outdated:
                memory = None
        self._failpoint("after_insert")
        if self._feed is not None:
            await self._timed("feed", partial(self._feed.tell, token, kept))
        # What was claimed before may have been written before, by a process with other prices: then its rows
        # stand, not ours, and only the store can say what to take back.
        await self._timed("seen", lambda: self._remember(kept, recent, trusted=anew))
        self._failpoint("after_seen")
        # What repeats others is settled, unless a crash came between its block and what followed from that.
        concluded = await self._conclude(block, repeats=not anew)
        if keep:
            await self._in_database(drop_block, self._engine, self.topic, partition)
        refused, block = _as_stored(folded, block, kept)
        return Outcome(end, len(records), [*folded.dead, *block.dead, *refused], block, concluded)

    async def _count(
        self,
        partition: int,
        folded: Folded[E],
        token: str,
        memory: RecentRows | None,
        owns: Callable[[], None],
        *,
        keep: bool,
    ) -> tuple[Block, Sequence[Change]]:
        """Steps 3 and 4: return the block and what the store took of it."""
        looked_up = time.monotonic()
        known = await self._timed("lookup", lambda: self._known(partition, folded, memory))
        block = await self._timed(
            "merge", lambda: asyncio.to_thread(self._ledger.build, folded.groups, known)
        )

        def holds() -> None:
            owns()
            if time.monotonic() - looked_up > LOOKUP_HOLDS_S:
                raise _Outdated

        if keep and block.changes:
            content = msgspec.msgpack.encode(block.changes)
            await self._in_database(keep_block, self._engine, self.topic, partition, token, content)
        if block.ahead:
            # Before the insert: afterwards a replay finds the joined state, which holds no trace of these.
            await until_available("publish", lambda: self._publisher.publish(self.topic, block.ahead))
        self._failpoint("before_insert")
        return block, await self._timed("insert", lambda: self._insert(block.changes, token, holds))

    async def finish_kept(self) -> None:
        """Complete what a crash left behind, before anything else is counted."""
        for block in await self._in_database(kept_blocks, self._engine, self.topic):
            # The same bytes under the same token: what is there already stays, what is missing is added.
            kept = await self._insert(_changes.decode(block.content), block.token, lambda: None)
            await self._remember(kept, RecentRows(0), trusted=False)
            if self._links is not None:
                await self._follow((), await self._links.conclude_rows([change.row for change in kept]))
            await self._in_database(drop_block, self._engine, self.topic, block.partition)
            await self._announce(self._ledger.days(kept))
            _log.warning("unfinished_block_completed", changes=len(kept))
        if self._links is not None:
            for concluded in await self._links.repair():
                await self._follow((), concluded)

    async def publish(self, partition: int, outcome: Outcome) -> None:
        """Step 6, before the commit: whoever waits, ranks or repairs hears of it at least once."""
        await self._follow(outcome.block.follow, outcome.concluded)
        if outcome.dead:
            letters = dead_letter_records(self.topic, partition, outcome.dead)
            await until_available("publish", lambda: self._publisher.publish(DEAD_LETTERS, letters))
            for letter in outcome.dead:
                self._metrics.counter("tokentide_dlq_events_total", reason=letter.reason).inc()
        verdicts = _verdict_records(outcome)
        if verdicts:
            await until_available("publish", lambda: self._publisher.publish(VERDICTS, verdicts))
        await self._announce(outcome.block.days)
        self._failpoint("after_publish")

    async def _conclude(self, block: Block, *, repeats: bool) -> Concluded:
        links, notice = self._links, block.noticed
        if links is None or notice is None:
            return Concluded()
        if repeats and block.repeated is not None:
            notice.join(block.repeated)
        return await self._timed("links", lambda: links.conclude(notice))

    async def _follow(self, follow: Sequence[Record], concluded: Concluded) -> None:
        """Publish what follows from a block: before its commit, so that it is never lost; it is a join."""
        for topic, records in (
            (self.topic, follow),
            (USAGE, concluded.records),
            (ACTIVITY, concluded.activity),
        ):
            if records:
                await until_available("publish", partial(self._publisher.publish, topic, records))
        if self._links is not None:
            self._links.settle(concluded)

    async def _announce(self, days: set[tuple[str, int]]) -> None:
        records = _period_records(days)
        if records:
            await until_available("publish", lambda: self._publisher.publish(PERIODS, records))

    async def committed(self, partition: int, end: int) -> None:
        """Take note that everything before `end` is committed: old claims are not needed any more."""
        self._failpoint("after_commit")
        self._commits[partition] += 1
        if self._commits[partition] % _TIDY_EVERY == 1:
            with contextlib.suppress(Unavailable):  # the next time will do
                await asyncio.to_thread(forget_claims, self._engine, self.topic, partition, end)

    async def _known(self, partition: int, folded: Folded[E], recent: RecentRows | None) -> dict[bytes, K]:
        """Return what is known of keys that are counted; without `recent`, by what the store says alone."""
        hashes = list(folded.groups)
        if recent is not None and self._counted.covers(partition):
            hashes = [hashes[i] for i in self._counted.maybe(b"".join(hashes))]
        known: dict[bytes, K] = {}
        asked = {}
        for key in hashes:
            kept = None if recent is None else recent.get(key)
            if kept is not None:
                known[key] = self._ledger.recall(kept, folded.groups[key])
            else:
                asked[key] = folded.groups[key]
        if asked:
            found = await until_available("lookup", lambda: self._look_up(asked))
            self._metrics.counter("tokentide_aggregator_lookups_total", result="known").inc(len(found))
            self._metrics.counter("tokentide_aggregator_lookups_total", result="unknown").inc(
                len(asked) - len(found)
            )
            known |= found
        return known

    async def _look_up(self, asked: Mapping[bytes, Group[E]]) -> dict[bytes, K]:
        try:
            return await self._ledger.known(self._store, asked)
        except InvalidRequest as exc:
            # Our own question: what a store refuses for want of memory or time, it answers later.
            raise Unavailable(exc.detail, code=exc.stable_code) from exc

    async def _in_database(self, work: Callable[..., T], *arguments: object) -> T:
        return await until_available("database", lambda: asyncio.to_thread(work, *arguments))

    async def _insert(
        self, changes: Sequence[Change], token: str, holds: Callable[[], None]
    ) -> Sequence[Change]:
        """Insert a block and return what the store took of it: all, or all but what it cannot read.

        `holds` raises when the block must not be inserted any more; it is asked before every attempt.
        """
        if not changes:
            return changes

        async def attempt() -> None:
            holds()
            await self._store.insert(self._ledger.table, data, token=token)

        rows = [row for change in changes for row in (change.taken_back, change.row) if row]
        data = b"\n".join(rows)
        if not data:  # of some kinds the index alone may change
            return changes
        try:
            # Exactly once: the same bytes under the same token, however often and by whomever, until the
            # store says yes. Ledger and views each know the token, so a partial insert completes.
            await until_available("insert", attempt)
        except InvalidEvent:
            return await self._insert_halves(changes, token, holds)
        count = data.count(b"\n") + 1
        self._metrics.histogram("tokentide_clickhouse_insert_rows", table=self._ledger.table).observe(count)
        return changes

    async def _insert_halves(
        self, changes: Sequence[Change], token: str, holds: Callable[[], None]
    ) -> Sequence[Change]:
        """The store cannot read a block that we took for valid: find the change, keep its neighbours.

        The halves are the same at every replay, with tokens of their own; of the whole nothing was written.
        """
        if len(changes) == 1:
            return []
        middle = len(changes) // 2
        first = await self._insert(changes[:middle], f"{token}/0", holds)
        second = await self._insert(changes[middle:], f"{token}/1", holds)
        return [*first, *second]

    async def _remember(self, changes: Sequence[Change], recent: RecentRows, *, trusted: bool) -> None:
        if not changes:
            return
        index = b"".join([change.index for change in changes])
        # Repeatable without a token: the table keeps the highest version of a key.
        await until_available("seen", lambda: self._store.insert(self._ledger.index, index, fmt="RowBinary"))
        # Only now: what the filter and the recent rows claim to know must be what the index knows.
        self._counted.add(b"".join([change.key for change in changes]))
        if trusted:
            recent.remember(changes, self._ledger.keep)
        else:
            recent.forget(changes)

    async def _timed(self, stage: str, work: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        done = await work()
        seconds = time.monotonic() - started
        self._metrics.histogram("tokentide_aggregator_stage_duration_seconds", stage=stage).observe(seconds)
        return done


def _as_stored(folded: Folded[E], block: Block, kept: Sequence[Change]) -> tuple[list[DeadLetter], Block]:
    """Return dead letters for what the store could not read, and the block without them."""
    if len(kept) == len(block.changes):
        return [], block
    stored = {change.key for change in kept}
    refused = [change for change in block.changes if change.key not in stored]
    letters = [
        DeadLetter(folded.groups[c.key].offset, "block_rejected", hashlib.sha256(c.row).hexdigest(), None)
        for c in refused
    ]
    # Whoever waits for one of them must not hear that it was counted.
    lost = {waiting for change in refused for waiting in folded.groups[change.key].waiting.values()}
    verdicts = [Verdict(v.waiting, "rejected") if v.waiting in lost else v for v in block.verdicts]
    return letters, block._replace(changes=list(kept), verdicts=verdicts)


def _verdict_records(outcome: Outcome) -> list[Record]:
    rejected = [Verdict(letter.waiting, "rejected") for letter in outcome.dead if letter.waiting]
    grouped: dict[tuple[bytes, str], list[tuple[int, str]]] = defaultdict(list)
    for waiting, verdict in (*outcome.block.verdicts, *rejected):
        grouped[waiting.reply_to, waiting.batch].append((waiting.position, verdict))
    return [
        Record(key=reply_to, value=msgspec.json.encode(Verdicts(batch, said)))
        for (reply_to, batch), said in grouped.items()
    ]


def _period_records(touched: set[tuple[str, int]]) -> list[Record]:
    days: dict[str, list[str]] = defaultdict(list)
    for org_id, ordinal in sorted(touched):
        days[org_id].append(date.fromordinal(ordinal).isoformat())
    return [
        Record(key=org_id.encode(), value=msgspec.json.encode(PeriodsTouched(org_id, iso_dates)))
        for org_id, iso_dates in days.items()
    ]
