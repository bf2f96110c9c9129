"""A partition that the group has not confirmed for long: asked for before anything in memory is trusted."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tokentide_aggregator.consumer import Consumer, Partition
from tokentide_aggregator.dead_letters import Brake
from tokentide_aggregator.filter import CountedCalls
from tokentide_aggregator.fold import Folded
from tokentide_aggregator.ledger import Block
from tokentide_aggregator.processing import LOOKUP_HOLDS_S, Claimed, Outcome
from tokentide_aggregator.recent import RecentRows
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.broker import LostPartition
from tokentide_common.metrics import Metrics

BATCH = [SimpleNamespace(offset=n, timestamp=0, key=b"", value=b"", headers=()) for n in (7, 8)]


class Group:
    """The group's coordinator, which takes commits of a member or refuses them."""

    topic = "tokentide.usage"

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.asked: list[tuple[int, int]] = []

    async def commit(self, partition: int, next_offset: int) -> None:
        self.asked.append((partition, next_offset))
        if self.refuses:
            raise LostPartition("the group has moved on")


class Stored:
    """Where batches end: remembers whether memory was to be trusted with each."""

    topic = "tokentide.usage"

    def __init__(self) -> None:
        self.sure: list[bool] = []

    async def fold(self, _partition: int, records: list[Any]) -> Claimed[Any]:
        return Claimed(records, Folded({}, []), True)

    async def store(self, *_args: object, sure: bool, keep: bool) -> Outcome:
        self.sure.append(sure)
        return Outcome(9, len(BATCH), [], Block([], [], set()))

    async def publish(self, *_args: object) -> None:
        """Nothing follows."""

    async def committed(self, *_args: object) -> None:
        """Nothing to tidy."""


async def after_silence(*, refuses: bool, silent_s: float) -> tuple[Group, Stored, Partition, bool]:
    """Count a batch of a partition that was confirmed so long ago; tell also whether it was lost."""
    group, stored = Group(refuses=refuses), Stored()
    unasked: Any = None  # nobody looks a call up here
    processor: Any = stored
    counted = CountedCalls(unasked, "seen_calls")
    consumer = Consumer(AggregatorSettings(), "g", processor, counted, Metrics())
    await consumer._group.stop()
    consumer._group = group  # type: ignore[assignment] -- stands for the broker's coordinator
    confirmed = time.monotonic() - silent_s
    partition = Partition(3, RecentRows(0), Brake(0.5, 1000), [], confirmed)
    try:
        await consumer._count(partition, list(BATCH))
    except LostPartition:
        return group, stored, partition, True
    return group, stored, partition, False


async def test_of_a_partition_that_was_given_away_nothing_is_inserted():
    group, stored, _, lost = await after_silence(refuses=True, silent_s=2 * LOOKUP_HOLDS_S)
    assert (lost, stored.sure, group.asked) == (True, [], [(3, 7)])


async def test_a_group_that_confirms_by_a_commit_of_what_is_done_already_lets_memory_be_trusted():
    group, stored, partition, lost = await after_silence(refuses=False, silent_s=2 * LOOKUP_HOLDS_S)
    assert (lost, stored.sure, group.asked) == (False, [True], [(3, 7), (3, 9)])
    assert time.monotonic() - partition.confirmed < LOOKUP_HOLDS_S


@pytest.mark.parametrize("silent_s", [0.0, LOOKUP_HOLDS_S / 4])
async def test_a_group_that_has_just_confirmed_is_not_asked_again(silent_s):
    group, stored, _, _ = await after_silence(refuses=False, silent_s=silent_s)
    assert (stored.sure, group.asked) == ([True], [(3, 9)])
