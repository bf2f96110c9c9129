"""5-hour blocks: the documented algorithm call by call, and windows that the provider has told."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise
from operator import or_

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokentide_query_api.blocks.forecast import burn, projection
from tokentide_query_api.blocks.windows import (
    HOUR_MS,
    WINDOW_MS,
    Entry,
    Sums,
    blocks_of,
    by_machine,
    overlap_minutes,
)

MINUTE_MS = 60_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=UTC).timestamp() * 1000)


def entry(ms: int, machine: str = "m", **sums: int) -> Entry:
    zeros = dict.fromkeys(
        ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "cost_nano"), 0
    )
    minutes = 1 << ms % HOUR_MS // MINUTE_MS
    told = {"first_ms": ms, "last_ms": ms, "machine_id": machine, "model": "opus", "minutes": minutes}
    return Entry(**told, calls=1, **(zeros | sums))


def naive(times: list[int]) -> list[tuple[int, list[int]]]:
    """The algorithm as it is described: (start, calls) of each block."""
    blocks: list[tuple[int, list[int]]] = []
    for ms in sorted(times):
        if not blocks or ms - blocks[-1][0] > WINDOW_MS or ms - blocks[-1][1][-1] > WINDOW_MS:
            blocks.append((ms - ms % HOUR_MS, []))
        blocks[-1][1].append(ms)
    return blocks


def by_hour(found: list[Entry], cuts: set[int]) -> list[Entry]:
    """Entries of each machine and hour, none of which spans one of these milliseconds, nor the next one."""
    apart: dict[tuple[str, int, int], list[Entry]] = {}
    for each in found:
        hour, into = divmod(each.first_ms, HOUR_MS)
        cut = sum(into >= at + after for at in cuts for after in (0, 1))
        apart.setdefault((each.machine_id, hour, cut), []).append(each)
    return [
        Entry(
            min(e.first_ms for e in own),
            max(e.last_ms for e in own),
            machine,
            "opus",
            *(sum(getattr(e, name) for e in own) for name in Sums.__struct_fields__),
            minutes=reduce(or_, (e.minutes for e in own)),
        )
        for (machine, _, _), own in apart.items()
    ]


times = st.lists(st.integers(0, 60 * HOUR_MS) | st.integers(0, 60).map(lambda h: h * HOUR_MS), max_size=30)


@given(times)
def test_blocks_are_those_of_the_algorithm_whatever_the_order(moments):
    blocks = [b for b in blocks_of(map(entry, reversed(moments))) if not b.is_gap]
    assert [(b.start_ms, [e.first_ms for e in b.entries]) for b in blocks] == naive(moments)
    assert all(b.end_ms - b.start_ms == WINDOW_MS for b in blocks)


@given(times, st.lists(st.integers(0, 60 * HOUR_MS), max_size=3))
def test_every_call_is_in_one_block_whatever_windows_were_told(moments, resets):
    blocks = blocks_of(map(entry, moments), resets)
    assert sorted(e.first_ms for b in blocks for e in b.entries) == sorted(moments)
    assert all(b.start_ms <= e.first_ms <= b.end_ms for b in blocks if b.pinned for e in b.entries)
    pinned = {b.end_ms for b in blocks if b.pinned}
    assert pinned <= set(resets)
    assert set(resets[:1]) <= pinned
    assert all(any(abs(reset - end) < WINDOW_MS for end in pinned) for reset in resets)


@given(times, st.lists(st.integers(0, 60 * HOUR_MS), max_size=3))
@example([390 * MINUTE_MS, 681 * MINUTE_MS], [380 * MINUTE_MS])  # 06:30 and 11:21 after 06:20
def test_no_two_blocks_overlap_whatever_windows_were_told(moments, resets):
    blocks = [b for b in blocks_of(map(entry, moments), resets) if not b.is_gap]
    assert all(b.end_ms <= after.start_ms for b, after in pairwise(blocks))


@given(
    st.lists(st.tuples(times.map(sorted), st.sampled_from("mn")), max_size=4),
    st.lists(st.integers(0, 60 * HOUR_MS), max_size=3),
)
@example([([0, 5 * HOUR_MS, 5 * HOUR_MS + 1], "m")], [])
@example([([90 * MINUTE_MS - 1, 90 * MINUTE_MS], "m"), ([90 * MINUTE_MS], "n")], [390 * MINUTE_MS])
def test_calls_by_hour_come_to_the_same_as_call_by_call(calls, resets):
    each = [entry(ms, machine, output_tokens=1 + ms % 7) for found, machine in calls for ms in found]
    hours = by_hour(each, {0, *(reset % HOUR_MS for reset in resets)})

    def told(entries: list[Entry]) -> list[tuple[object, ...]]:
        return [
            (b.start_ms, b.end_ms, b.first_ms, b.last_ms, b.machine_sums, b.sums, overlap_minutes(b.machines))
            for b in blocks_of(entries, resets)
        ]

    assert told(hours) == told(each)


def test_a_gap_lies_between_the_end_of_what_the_last_call_kept_open_and_the_next_call():
    first, second = at("01T10:30:00"), at("02T09:15:00")
    block, gap, after = blocks_of([entry(first), entry(second)])
    assert (gap.is_gap, gap.start_ms, gap.end_ms) == (True, first + WINDOW_MS, second)
    assert (block.start_ms, after.start_ms) == (at("01T10:00:00"), at("02T09:00:00"))


def test_a_call_exactly_five_hours_after_the_start_still_belongs_to_the_block():
    calls = [entry(at("01T10:00:00")), entry(at("01T15:00:00")), entry(at("01T15:00:00") + 1)]
    blocks = blocks_of(calls)
    assert [len(b.entries) for b in blocks] == [2, 1]
    assert blocks[1].start_ms == at("01T15:00:00")


def test_a_window_that_the_provider_told_is_taken_as_it_is_and_cuts_the_estimate_short():
    calls = [entry(at("01T08:10:00")), entry(at("01T11:20:00")), entry(at("01T16:40:00"))]
    before, told, after = blocks_of(calls, [at("01T16:30:00")])
    assert (told.pinned, told.start_ms, told.end_ms) == (True, at("01T11:30:00"), at("01T16:30:00"))
    assert (before.start_ms, before.end_ms, len(before.entries)) == (at("01T08:00:00"), at("01T11:30:00"), 2)
    assert (told.entries, after.start_ms) == ((), at("01T16:30:00"))


def test_a_block_is_active_while_its_time_runs_and_its_last_call_is_recent():
    (block,) = blocks_of([entry(at("01T10:30:00"))])
    assert block.is_active(at("01T14:59:00"))
    assert not block.is_active(at("01T15:00:00"))
    (told,) = blocks_of([], [at("01T15:10:00")])
    assert told.is_active(at("01T15:09:00"))
    assert not told.is_active(at("01T15:10:00"))


def test_pace_and_projection_follow_from_the_time_between_the_first_call_and_the_last():
    calls = [
        entry(at("01T10:30:00"), input_tokens=60, cache_read_tokens=600, cost_nano=10**9),
        entry(at("01T11:30:00"), output_tokens=60, cost_nano=2 * 10**9),
    ]
    (block,) = blocks_of(calls)
    rate = burn(block)
    assert rate is not None
    assert (rate.tokens_per_minute, rate.fresh_tokens_per_minute) == (12, 2)
    assert rate.cost_usd_per_hour == pytest.approx(3)
    ahead = projection(block, at("01T12:00:00"))
    assert ahead is not None
    assert (ahead.remaining_minutes, ahead.total_tokens) == (180, 720 + 180 * 12)
    assert ahead.cost_usd == pytest.approx(3 + 9)
    assert projection(block, at("01T15:00:00")) is None
    (single,) = blocks_of(calls[:1])
    assert burn(single) is None


def test_machines_overlap_in_the_minutes_in_which_more_than_one_called():
    start = at("01T10:00:00")
    calls = [entry(start), entry(start + 1), entry(start + 2, "n"), entry(start + MINUTE_MS, "n")]
    assert overlap_minutes(by_machine(calls)) == 1


def test_a_recorded_session_has_the_block_that_a_widely_used_tool_reports():
    """ccusage 20.0.24 of four calls: 01:00 to 06:00, 51,120 tokens until 01:10:49.822, 272 minutes left."""
    first, last = at("22T01:10:47.025"), at("22T01:10:49.822")
    calls = [
        entry(first, input_tokens=28, output_tokens=233, cache_read_tokens=23539, cache_write_tokens=1780),
        entry(
            first + 900, input_tokens=28, output_tokens=89, cache_read_tokens=11705, cache_write_tokens=615
        ),
        entry(last, input_tokens=15, output_tokens=66, cache_read_tokens=12395, cache_write_tokens=627),
    ]
    (block,) = blocks_of(calls)
    assert (block.start_ms, block.end_ms, block.last_ms) == (at("22T01:00:00"), at("22T06:00:00"), last)
    assert block.sums.total_tokens == 51120
    rate, ahead = burn(block), projection(block, at("22T01:28:00"))
    assert rate is not None
    assert ahead is not None
    assert rate.tokens_per_minute == pytest.approx(1096603.503754022)
    assert rate.fresh_tokens_per_minute == pytest.approx(9846.263854129424)
    assert ahead.remaining_minutes == 272
