"""Several partitions whose aggregators publish to each other, without a broker; and what must come of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

from infra.counting import Counter, live_rows, rollup_sums, sums_of
from tokentide_aggregator.failpoints import Failpoint
from tokentide_aggregator.session_facts import (
    known_facts,
    person_fact,
    person_of,
    session_of,
    subjects,
    unnamed,
)
from tokentide_common.broker import Record
from tokentide_common.events import UsageEvent, decode_wire_event, encode_event
from tokentide_common.identity import alias_and_call, known_by, message_of
from tokentide_common.merge import State, add, canonical, merged
from tokentide_common.outbox import partition_of
from tokentide_common.store import Store, rows
from tokentide_common.topics import ACTIVITY

WHO = ("user_id", "user_email", "team", "account_id", "machine_id", "project")


class Linked:
    """Partitions of one topic, each with an aggregator of its own, over one store.

    What an aggregator would publish goes to the partitions' logs, before its commit.
    """

    def __init__(self, store: Store, folder: Path, topic: str, *, partitions: int = 2) -> None:
        self.activity: list[Record] = []
        """What was concluded for activity."""
        self.counters = [Counter(store, folder, f"{topic}-{n}") for n in range(partitions)]
        for counter in self.counters:
            self.restart(counter)

    def restart(self, counter: Counter, failpoint: Failpoint = lambda _point: None) -> None:
        """Let an aggregator be a new process."""
        counter.restart(failpoint, publisher=self)

    async def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Be the broker of the aggregators."""
        if topic == ACTIVITY:
            self.activity += records
        else:
            self.send(records)

    def send(self, records: Iterable[Record]) -> None:
        for record in records:
            event = decode_wire_event(record.value or b"")
            number = partition_of(record.key or b"", len(self.counters))
            self.counters[number].append([event], headers=tuple(record.headers))

    def append(self, events: Iterable[UsageEvent]) -> None:
        self.send(Record(e.call_id.encode(), encode_event(e)) for e in events)

    @property
    def waiting(self) -> list[Counter]:
        """Partitions that have not counted everything."""
        return [counter for counter in self.counters if counter.committed < len(counter.log)]

    async def turn(self, counter: Counter, size: int, *, publish: bool = True, commit: bool = True) -> Any:
        """Count a batch; without `publish` or `commit` the aggregator dies before that."""
        outcome = await counter.count(size, commit=False)
        if publish:
            self.send([*outcome.block.follow, *outcome.concluded.records])
            self.activity += outcome.concluded.activity
            counter.links.settle(outcome.concluded)
        if publish and commit:
            counter.committed = outcome.end
        else:
            self.restart(counter)
        return outcome

    async def count_all(self, size: int = 100) -> None:
        """Count until nothing is published any more."""
        rounds = 0
        while waiting := self.waiting:
            await self.turn(waiting[0], size)
            rounds += 1
            assert rounds < 1000, "what is published must come to an end"

    async def count_somehow(self, order: random.Random, after: Callable[[], Any] | None = None) -> None:
        """Count batches of any size, partitions in any order, dying at times before publish or commit."""
        while waiting := self.waiting:
            counter = order.choice(waiting)
            if order.random() < 0.3:
                await counter.with_filter()
            lives, commits = order.random() < 0.8, order.random() < 0.8
            await self.turn(counter, order.randint(1, 6), publish=lives, commit=commits)
            if after is not None:
                await after()

    def close(self) -> None:
        for counter in self.counters:
            counter.close()


async def assert_true_anyhow(
    store: Store, folder: Path, org_id: str, events: list[UsageEvent], chance: random.Random
) -> None:
    """Let aggregators count events in some order, with crashes, and hold them to the truth."""
    mixed = Linked(store, folder, org_id)
    mine = [msgspec.structs.replace(event, org_id=org_id) for event in events]
    mixed.append(mine)
    await mixed.count_somehow(chance)
    await assert_true(store, org_id, mine, mixed.counters[0].price)
    mixed.close()


async def assert_true(store: Store, org_id: str, events: list[UsageEvent], price: Any) -> None:
    """Hold ledger and rollups to what the events amount to by themselves."""
    records = truth(events)
    said = await rollup_sums(store, org_id)
    assert said == dict.fromkeys(said, sums_of(records.values(), price))
    counted = {row["call_id"]: row for row in await live_rows(store, org_id) if not row["same_as"]}
    assert {call: {n: row[n] for n in WHO} for call, row in counted.items()} == {
        call: {n: getattr(record, n) for n in WHO} for call, record in records.items()
    }
    people = "SELECT user_id, sum(calls) AS n FROM usage_day WHERE org_id = {org:String} GROUP BY 1"
    by_user: dict[str, int] = {}
    for record in records.values():
        by_user[record.user_id] = by_user.get(record.user_id, 0) + 1
    found = await rows(store, f"{people} HAVING n > 0", {"org": org_id})
    assert {row["user_id"]: row["n"] for row in found} == by_user


def truth(events: Sequence[UsageEvent]) -> dict[str, UsageEvent]:
    """Return the record of every call that must be counted, from the events alone."""
    parent: dict[str, str] = {}

    def root(call_id: str) -> str:
        while parent.get(call_id, call_id) != call_id:
            call_id = parent[call_id]
        return call_id

    for event in events:
        if event.same_as:
            alias, call = alias_and_call(root(event.call_id), root(event.same_as))
            parent[alias] = call
    answers: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.message_id and not message_of(event.call_id):
            answers[known_by(event.message_id)].add(root(event.call_id))
    states: dict[str, State] = defaultdict(dict)
    for event in events:
        own = root(event.call_id)
        for call_id in answers.get(own) or [own]:
            told = canonical(msgspec.structs.replace(event, call_id=call_id, same_as=""))
            states[call_id] = add(states[call_id], told)
    facts = defaultdict(list)
    for event in events:
        fact = person_fact(event)
        if fact is not None:
            for told in (fact, *known_facts(fact)):
                facts[told.session].append(told)
    return {call_id: merged(_named(state, facts))[0] for call_id, state in states.items()}


def _named(state: State, facts: Any) -> State:
    session, call = session_of(state), unnamed(state)
    if session is None or call is None:
        return state
    known = [fact for subject in subjects(facts[session]) for fact in facts[subject]]
    person = person_of(call, [*facts[session], *known])
    return state if person is None else reduce(add, [person], state)
