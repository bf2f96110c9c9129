"""Rankings as the query API tells them: the newest fence, in the organisation's own calendar, in pages."""

from __future__ import annotations

import pytest

from infra.query_client import query_api
from infra.rankings import insert_rankings, ranking


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path, time_zone="Asia/Tokyo") as caller:
        yield caller


async def test_a_ranking_has_rank_share_percentile_and_movement(api, store):
    await insert_rankings(store, ranking(1, [("u1", 3_000_000_000, 1, 2), ("u2", 1_000_000_000, 2, None)]))
    found = await api.json("/rankings")
    assert (found["period"], found["period_start"], found["tz"]) == ("month", "2026-11-01", "Asia/Tokyo")
    assert found["items"] == [
        {"rank": 1, "entity": "u1", "value": "3", "share": 0.75, "percentile": 100, "previous_rank": 2,
         "movement": 1},
        {"rank": 2, "entity": "u2", "value": "1", "share": 0.25, "percentile": 90, "previous_rank": None,
         "movement": None},
    ]  # fmt: skip


async def test_what_a_ranker_wrote_after_it_lost_its_lease_is_never_shown(api, store):
    await insert_rankings(store, ranking(2, [("right", 5, 1, None)]))
    await insert_rankings(store, ranking(1, [("stale", 9, 1, None), ("staler", 8, 2, None)]))
    assert [item["entity"] for item in (await api.json("/rankings"))["items"]] == ["right"]


async def test_pages_of_a_ranking_continue_where_the_last_one_ended(api, store):
    await insert_rankings(
        store, ranking(1, [(f"u{n}", 100 - n, n + 1, None) for n in range(7)], metric="calls")
    )
    found, cursor = [], ""
    while cursor is not None:
        page = await api.json(f"/rankings?metric=calls&limit=3{cursor and '&cursor=' + cursor}")
        found += [(item["rank"], item["value"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == [(n + 1, 100 - n) for n in range(7)]


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("period=day", "2026-11-22"),
        ("period=day&at=2026-03-05", "2026-03-05"),
        ("period=week&at=2026-03-05", "2026-03-02"),
        ("period=year", "2026-01-01"),
        ("period=all", "1970-01-01"),
    ],
)
async def test_a_date_names_the_period_that_it_lies_in(api, store, query, start):
    kind = query.split("&")[0].removeprefix("period=")
    await insert_rankings(store, ranking(1, [("u", 1, 1, None)], period=kind, period_start=start))
    found = await api.json(f"/rankings?{query}")
    assert (found["period_start"], len(found["items"])) == (start, 1)


async def test_a_period_without_usage_has_an_empty_ranking_and_no_other_organisations(api, store):
    await insert_rankings(store, ranking(1, [("theirs", 1, 1, None)], org_id="org_b"))
    found = await api.json("/rankings")
    assert (found["items"], found["next_cursor"], found["computed_at"]) == ([], None, None)
    assert len((await api.json("/rankings", "org_b"))["items"]) == 1
