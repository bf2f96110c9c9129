"""The brake, the rows in memory, the filter's promise, and the failpoints' grammar."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_aggregator.dead_letters import Brake, dead_letter_records
from tokentide_aggregator.failpoints import failpoint
from tokentide_aggregator.filter import CallFilter
from tokentide_aggregator.fold import DeadLetter
from tokentide_aggregator.ledger import Change
from tokentide_aggregator.recent import RecentRows
from tokentide_common.errors import TokentideError


def hashed(name: int) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


@given(st.sets(st.integers(0, 10_000), max_size=200), st.sets(st.integers(0, 10_000), max_size=200))
def test_the_filter_never_calls_a_counted_call_new(added, asked):
    counted = CallFilter(0)
    counted.add(b"".join(map(hashed, added)))
    order = list(asked)
    maybe = {order[i] for i in counted.maybe(b"".join(map(hashed, order)))}
    assert added & asked <= maybe


def test_the_filter_rules_out_nearly_all_new_calls_when_full():
    counted, hashes = CallFilter(0), Random(1)
    counted.add(hashes.randbytes(16 * counted.capacity))
    assert len(counted.maybe(hashes.randbytes(16 * 50_000))) < 50_000 * 0.004


def test_a_few_bad_records_among_many_do_not_trip_the_brake():
    brake = Brake(0.5, window=100)
    assert not any(brake.trips(10, 1) for _ in range(100))


def test_mostly_bad_records_trip_the_brake_but_only_over_a_whole_window():
    brake = Brake(0.5, window=100)
    assert [brake.trips(30, 30) for _ in range(4)] == [False, False, False, True]


def test_one_bad_stretch_long_ago_does_not_trip_the_brake_for_ever():
    brake = Brake(0.5, window=100)
    assert brake.trips(100, 100)
    assert [brake.trips(60, 0) for _ in range(3)] == [True, False, False]


def test_a_dead_letter_says_why_and_where_and_holds_no_content():
    (record,) = dead_letter_records("t", 3, [DeadLetter(17, "unreadable_record", "ab" * 32, None)])
    assert (record.value, dict(record.headers)) == (
        b"",
        {
            "reason": b"unreadable_record",
            "source-topic": b"t",
            "source-partition": b"3",
            "source-offset": b"17",
            "sha256": b"ab" * 32,
        },
    )


def test_recent_rows_stay_within_their_bound_and_keep_the_newest():
    recent = RecentRows(limit_bytes=100)
    recent.remember([Change(bytes([n]), b"", b"x" * 30, None) for n in range(5)], lambda change: change.row)
    assert [recent.get(bytes([n])) is not None for n in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "text", ["before_insert", "nowhere:kill", "after_insert:sing", "after_insert:kill@x"]
)
def test_a_failpoint_that_means_nothing_stops_the_start(text):
    with pytest.raises(TokentideError):
        failpoint(text)


def test_no_failpoint_does_nothing():
    failpoint("")("after_insert")
