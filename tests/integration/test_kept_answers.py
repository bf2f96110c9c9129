"""Kept answers are what the store would answer now, and are read once however many ask."""

from __future__ import annotations

import asyncio
import random

import pytest

from infra.ledger_rows import call, insert_calls
from tokentide_common.errors import InvalidRequest, Unavailable
from tokentide_common.metrics import Metrics
from tokentide_query_api.kept_answers import KeptAnswers

CALLS = "SELECT count() FROM ledger"
COST = "SELECT sum(cost_nano) FROM usage_day"
METERS = "SELECT count() FROM limits"


class Counted:
    """A kept store, and how often it read or gave what it had."""

    def __init__(self, store, limit_bytes=1_000_000):
        self.metrics = Metrics()
        self.answers = KeptAnswers(store, limit_bytes, self.metrics)

    async def read(self, sql, **params):
        return await self.answers.read(sql, params, fmt="TSV")

    def times(self, how):
        return self.metrics.counter("tokentide_query_answers_total", how=how)._value.get()


@pytest.fixture
async def counted(store):
    await insert_calls(store, [call(call_id="first", cost_nano=1)])
    return Counted(store)


async def test_the_same_question_is_read_once_until_its_table_changes(counted, store):
    assert [await counted.read(CALLS) for _ in range(3)] == [b"1\n"] * 3
    assert (counted.times("read"), counted.times("kept")) == (1, 2)
    await insert_calls(store, [call(call_id="second", cost_nano=2)])
    assert (await counted.read(CALLS), await counted.read(COST)) == (b"2\n", b"3\n")


async def test_a_merge_of_sums_lets_an_answer_stand_and_a_deletion_does_not(counted, store):
    await insert_calls(store, [call(call_id="second", cost_nano=2)])
    await counted.read(COST)
    await store.command("OPTIMIZE TABLE usage_day FINAL")
    assert await counted.read(COST) == b"3\n"
    assert counted.times("kept") == 1
    await store.command("ALTER TABLE usage_day DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert await counted.read(COST) == b"0\n"


async def test_what_changes_elsewhere_lets_an_answer_stand(counted, store):
    await counted.read(COST)
    await store.command("INSERT INTO schema_migrations (name) VALUES ('other')")
    await counted.read(COST)
    assert counted.times("kept") == 1


async def test_all_who_ask_at_once_share_one_reading(counted):
    assert await asyncio.gather(*(counted.read(CALLS) for _ in range(20))) == [b"1\n"] * 20
    assert counted.times("read") == 1


async def test_other_values_and_other_walls_are_other_questions(counted):
    sql = "SELECT count() FROM ledger WHERE call_id = {id:String}"
    assert await counted.read(sql, id="first") == b"1\n"
    assert await counted.read(sql, id="second") == b"0\n"
    walled = {"additional_table_filters": {"ledger": "org_id = 'nobody'"}}
    assert await counted.answers.read(CALLS, fmt="TSV", settings=walled) == b"0\n"
    assert await counted.read(CALLS) == b"1\n"


async def test_a_question_that_fails_is_asked_again(counted):
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            await counted.read("SELECT nothing FROM ledger")
    assert counted.times("read") == 2


async def test_who_goes_away_takes_the_answer_from_nobody(counted):
    first = asyncio.create_task(counted.read(CALLS))
    second = asyncio.create_task(counted.read(CALLS))
    while not counted.times("kept"):
        await asyncio.sleep(0)
    first.cancel()
    assert await second == b"1\n"


async def test_memory_is_bounded_and_one_answer_never_takes_all_of_it(store):
    await insert_calls(store, [call(call_id="first")])
    counted = Counted(store, limit_bytes=5000)
    for number in range(10):
        await counted.read("SELECT {n:UInt8} FROM ledger", n=number)
    assert counted.answers._size <= 5000
    await counted.read("SELECT repeat('x', 2000) FROM ledger")
    for _ in range(2):
        await counted.read("SELECT {n:UInt8} FROM ledger", n=9)
    assert counted.times("kept") == 2, "a large answer drove the small ones out"


class Secretive:
    """A store whose parts its user may not see."""

    def __init__(self, store):
        self.store = store

    async def read(self, sql, *arguments, **options):
        if "system." in sql:
            raise Unavailable("not enough privileges", code="store_unavailable")
        return await self.store.read(sql, *arguments, **options)


async def test_a_store_that_does_not_show_its_parts_is_read_each_time(store):
    counted = Counted(Secretive(store))
    assert await counted.read(CALLS) == b"0\n"
    await insert_calls(store, [call(call_id="first")])
    assert await counted.read(CALLS) == b"1\n"
    assert counted.times("unseen") == 2


async def test_an_empty_room_keeps_nothing(store):
    await insert_calls(store, [call(call_id="first")])
    counted = Counted(store, limit_bytes=0)
    assert [await counted.read(CALLS) for _ in range(2)] == [b"1\n"] * 2
    assert counted.times("kept") == 0


async def test_whatever_is_written_and_merged_in_between_the_answer_is_that_of_the_store(counted, store):
    drawn = random.Random(6)

    async def write(number):
        await insert_calls(store, [call(call_id=f"c{number}", cost_nano=number)])

    for number in range(12):
        done = [asyncio.create_task(write(number))]
        if drawn.random() < 0.3:
            done.append(asyncio.create_task(store.command("OPTIMIZE TABLE usage_day FINAL")))
        await asyncio.gather(*(counted.read(sql) for sql in (CALLS, COST, METERS)))  # in the midst of it
        await asyncio.gather(*done)
        for sql in (CALLS, COST, METERS):
            assert await counted.read(sql) == await store.read(sql, fmt="TSV")
