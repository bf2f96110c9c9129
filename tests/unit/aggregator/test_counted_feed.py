"""What live views are told of a block: its rows as they are, under keys that a replay repeats."""

from __future__ import annotations

from tokentide_aggregator.counted_feed import counted_records
from tokentide_aggregator.ledger import Change


def change(number: int, *, back: bytes | None = None, size: int = 10) -> Change:
    return Change(b"k%d" % number, b"", b"%d" % number + b"x" * size, back)


def test_rows_go_as_they_are_and_a_replay_has_the_same_keys():
    changes = [change(1), change(2, back=b"old")]
    (record,) = counted_records("usage-0-5-7-ab", changes)
    assert record.value.split(b"\n") == [b"1" + b"x" * 10, b"old", b"2" + b"x" * 10]
    assert counted_records("usage-0-5-7-ab", changes) == [record]
    assert counted_records("usage-0-7-9-ab", changes)[0].key != record.key


def test_records_are_bounded_and_what_belongs_together_stays_together():
    changes = [change(n, back=b"old", size=200_000) for n in range(7)]
    records = counted_records("t", changes)
    assert len({record.key for record in records}) == len(records) > 1
    assert all(len(record.value) < 900_000 for record in records)
    assert sum(record.value.count(b"old") for record in records) == 7
    assert all(record.value.startswith(b"old") for record in records)


def test_of_a_call_too_large_for_a_record_is_told_only_that_it_was_and_its_neighbours_are_told():
    changes = [change(1), change(2, back=b"old", size=600_000), change(3)]
    assert [record.value[:1] for record in counted_records("t", changes)] == [b"1", b"", b"3"]


def test_of_a_large_block_is_told_only_that_it_was_and_of_none_nothing():
    assert [r.value for r in counted_records("t", [change(n) for n in range(2001)])] == [b""]
    assert counted_records("t", []) == []
