"""The parts of a period: nothing twice, nothing left out, nothing across an edge, the coarsest first."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.dimensions import (
    DAY_MS,
    DAYS,
    DIMENSIONS,
    HOUR_MS,
    LEDGER,
    MODEL_QUARTERS,
    QUARTER_MS,
    QUARTERS,
    SESSION_HOURS,
    SESSION_KEY,
    SESSIONS,
    USER_HOURS,
    dimension,
)
from tokentide_query_api.resolution import parts, stretches

days = st.integers(0, 60).map(lambda d: d * DAY_MS)
quarters = st.integers(0, 60 * 96).map(lambda q: q * QUARTER_MS)
edges = st.lists(days | quarters | st.integers(0, 60 * DAY_MS), min_size=2, max_size=80, unique=True).map(
    sorted
)
dimensions = st.sets(st.sampled_from(sorted(DIMENSIONS)), max_size=3)


@given(edges, dimensions, st.booleans())
def test_parts_cover_the_period_once_in_whole_grains_and_never_across_an_edge(edges, names, latency):
    needed = [DIMENSIONS[name] for name in names]
    found = parts(edges, needed, latency=latency)
    ranges = sorted((start, end, part.table) for part in found for start, end in part.ranges)
    assert ranges[0][0] == edges[0]
    assert ranges[-1][1] == edges[-1]
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    for part in found:
        assert all(d.column in part.table.columns for d in needed)
        assert part.table.has_latency or not latency
        for start, end in part.ranges:
            assert start % part.table.grain_ms == end % part.table.grain_ms == 0
            assert all(e % part.table.grain_ms == 0 for e in edges if start < e < end)


def test_a_long_period_is_read_from_days_and_its_ends_from_quarters_and_the_ledger():
    start, end = DAY_MS - QUARTER_MS - 1, 40 * DAY_MS + QUARTER_MS
    asked = [dimension("user_id"), dimension("project")]
    found = {p.table: p.ranges for p in parts((start, end), asked)}
    assert found == {
        DAYS: ((DAY_MS, 40 * DAY_MS),),
        QUARTERS: ((DAY_MS - QUARTER_MS, DAY_MS), (40 * DAY_MS, end)),
        LEDGER: ((start, DAY_MS - QUARTER_MS),),
    }


def test_a_ranking_over_one_dimension_is_read_from_days_of_few_rows():
    for name, table in (
        ("user_id", "usage_day_person"),
        ("machine_id", "usage_day_machine"),
        ("project", "usage_day_project"),
        ("model", "usage_day_price"),
        ("team", "usage_day_price"),
    ):
        (part,) = parts((0, 30 * DAY_MS), [dimension(name)])
        assert part.table.name == table
        (part,) = parts((0, 30 * DAY_MS), [dimension(name)], latency=True)
        assert part.table is (MODEL_QUARTERS if name == "model" else DAYS), "only these have latencies"


def test_local_days_and_hours_of_sessions_are_read_from_tables_of_few_rows():
    two_hours = 7_200_000
    local_days = [day * DAY_MS - two_hours for day in range(31)]
    assert [part.table for part in parts(local_days, [dimension("model")])] == [MODEL_QUARTERS]
    found = {p.table: p.ranges for p in parts((1, DAY_MS + 1), [SESSION_KEY])}
    assert found == {
        SESSION_HOURS: ((HOUR_MS, DAY_MS),),
        LEDGER: ((1, HOUR_MS), (DAY_MS, DAY_MS + 1)),
    }
    (part,) = parts((0, DAY_MS), [SESSION_KEY, dimension("model")])
    assert part.table is SESSIONS, "the hours of sessions know nothing else"


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 20))), st.integers(1, 5))
def test_stretches_cover_what_they_are_made_of_and_no_more_than_they_must(drawn, most):
    ranges = [(start, start + length) for start, length in drawn]
    found = stretches(ranges, most)
    assert len(found) <= most
    assert all(a[1] < b[0] for a, b in pairwise(found))
    inside = {moment for start, end in ranges for moment in range(start, end)}
    covered = {moment for start, end in found for moment in range(start, end)}
    assert inside <= covered
    assert {start for start, _ in found} | {end - 1 for _, end in found} <= inside
    if len(stretches(ranges, 1000)) <= most:
        assert covered == inside


def test_addresses_expenses_and_what_prices_depend_on_are_read_from_days_too():
    for name in ("user_email", "cost_center", "identity_provider", "key_id"):
        (part,) = parts((0, 30 * DAY_MS), [dimension(name), dimension("user_id"), dimension("team")])
        assert part.table.name == "usage_day_person", name
    for name in ("service_tier", "speed", "inference_geo"):
        (part,) = parts((0, 30 * DAY_MS), [dimension(name), dimension("model")])
        assert part.table.name == "usage_day_price", name


def test_what_only_the_ledger_knows_is_read_from_the_ledger():
    for name in ("git_branch", "status", "stop_reason", "effort", "prompt_id", "tag.env"):
        (part,) = parts((0, 30 * DAY_MS), [dimension(name)])
        assert part.table is LEDGER, name
    (part,) = parts((0, DAY_MS), [dimension("session_id"), dimension("model")])
    assert part.table is SESSIONS
    (part,) = parts((0, DAY_MS), [dimension("key_id"), dimension("agent")])
    assert part.table is QUARTERS
    (part,) = parts((0, DAY_MS), [dimension("key_id"), dimension("model")])
    assert part.table is USER_HOURS


def test_an_empty_period_is_an_empty_range_and_not_a_missing_part():
    assert [part.ranges for part in parts((5, 5), [])] == [((5, 5),)]
