"""What the query API refuses, and how: a problem that names the parameter and what would be right."""

from __future__ import annotations

import pytest
import pytest_asyncio
from litestar.testing import AsyncTestClient

from infra import query_oracle as oracle
from infra.ledger_rows import call, insert_calls
from infra.query_client import query_api
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_query_api.app import create_app
from tokentide_query_api.blocks import entries
from tokentide_query_api.reports import attribution, people, typed_costs
from tokentide_query_api.settings import QuerySettings

in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty_api(shared_store, tmp_path_factory):
    async with query_api(shared_store, tmp_path_factory.mktemp("refusals")) as caller:
        yield caller


@in_one_loop
@pytest.mark.parametrize(
    ("path", "code", "field"),
    [
        ("/usage/summary?modle=x", "unknown_parameter", "modle"),
        ("/usage/summary?limit=3", "unknown_parameter", "limit"),
        ("/rankings?model=x", "unknown_parameter", "model"),
        ("/rankings?tag.x=1", "unknown_parameter", "tag.x"),
        ("/calls/req_1?from=7d", "unknown_parameter", "from"),
        ("/usage/summary?from=soon", "invalid_period", "from"),
        ("/usage/summary?from=2026-02-30", "invalid_period", "from"),
        ("/usage/summary?from=2026-02-01T00:00:00", "invalid_period", "from"),
        ("/usage/summary?to=today", "invalid_period", "from"),
        ("/usage/summary?from=today&to=yesterday", "invalid_period", "from"),
        ("/usage/summary?from=1970-01-01", "invalid_period", "from"),
        ("/usage/summary?from=9999d", "invalid_period", "from"),
        ("/usage/summary?tz=Mars/Olympus", "unknown_time_zone", "tz"),
        ("/usage/summary?tz=../etc/passwd", "unknown_time_zone", "tz"),
        ("/usage/summary?from=7d&from=8d", "repeated_parameter", "from"),
        ("/usage/summary?is_sidechain=maybe", "invalid_parameter", "is_sidechain"),
        ("/usage/summary?format=xml", "invalid_parameter", "format"),
        ("/usage/timeseries?bucket=minute", "invalid_parameter", "bucket"),
        ("/usage/timeseries?group_by=a,b,c", "invalid_parameter", "group_by"),
        ("/usage/timeseries?from=all&bucket=15m", "too_many_buckets", "bucket"),
        ("/usage/breakdown?by=sign", "unknown_dimension", "dimension"),
        ("/usage/breakdown?by=model,model", "invalid_parameter", "by"),
        ("/usage/breakdown?by=", "invalid_parameter", "by"),
        ("/usage/breakdown?metric=sum(1)", "invalid_parameter", "metric"),
        ("/usage/breakdown?limit=0", "invalid_parameter", "limit"),
        ("/calls?limit=501", "invalid_parameter", "limit"),
        ("/calls?limit=-1", "invalid_parameter", "limit"),
        ("/calls?limit=1e2", "invalid_parameter", "limit"),
        (f"/calls?model={'x' * 1025}", "invalid_parameter", "model"),
        ("/rankings?period=decade", "invalid_parameter", "period"),
        ("/rankings?at=2026-13-01", "invalid_period", "at"),
        ("/usage/summary?model=%ff", "invalid_query_string", None),
    ],
)
async def test_a_wrong_parameter_is_named_and_nothing_is_guessed(empty_api, path, code, field):
    answer = await empty_api.get(path)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["instance"] == answer.headers["x-request-id"]
    assert field is None or field in [error["field"] for error in problem["errors"]]


@in_one_loop
async def test_an_unknown_parameter_is_answered_with_the_allowed_ones(empty_api):
    detail = (await empty_api.get("/usage/breakdown?bi=model")).json()["detail"]
    assert all(name in detail for name in ("by", "metric", "from", "model", "not_", "tag.<key>"))


async def test_too_many_points_are_refused_and_not_cut_off(api, store):
    await insert_calls(store, [call(session_id=f"s{n}") for n in range(1001)])
    answer = await api.get("/usage/timeseries?from=100d&bucket=day&group_by=session_id")
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_points")


@pytest.mark.parametrize(
    ("path", "of", "bound"),
    [
        ("/blocks", entries, "MOST_READ"),
        ("/reports/model-token-types", typed_costs, "MOST_READ"),
        ("/reports/cost-attribution", attribution, "MAX_ROWS"),
        ("/reports/monthly-per-user-detail", people, "MAX_ROWS"),
    ],
)
async def test_no_more_is_read_into_memory_than_is_bounded(api, store, monkeypatch, path, of, bound):
    await insert_calls(store, [call(user_id="u", model=f"m{n}", output_tokens=1) for n in range(3)])
    monkeypatch.setattr(of, bound, 3)
    assert (await api.get(path)).status_code == 200
    monkeypatch.setattr(of, bound, 2)
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_points")


async def test_the_longest_series_that_is_allowed_is_answered(api, store):
    await insert_calls(store, [call()])
    found = await api.json("/usage/timeseries?from=104d&bucket=15m")
    (series,) = found["series"]
    assert len(series["points"]) == 104 * 96
    assert sum(p["calls"] for p in series["points"]) == 1


async def test_a_store_that_is_away_is_answered_with_when_to_come_back(tmp_path, clickhouse_process):
    engine = open_database(migrated_sqlite(tmp_path / "a.db"))
    create_organization(engine, "a", org_id="org_a")
    key, _ = issue_key(engine, "org_a", "a")
    store = Store(clickhouse_process.database_url("tokentide"), timeout_s=2)
    clickhouse_process.kill()
    async with AsyncTestClient(create_app(QuerySettings(), store=store, engine=engine)) as client:
        answer = await client.get("/api/v1/usage/summary", headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
    await store.close()
    engine.dispose()


async def test_a_store_of_its_own_answers_the_same_over_http(tmp_path, shared_clickhouse_process):
    store = Store(shared_clickhouse_process.database_url("query_over_http"))
    await migrate(store)
    live = await oracle.fill(store, seed=9, zone="Asia/Kathmandu", size=40)
    mine = [c for c in live if c["org_id"] == "org_a"]
    async with query_api(store, tmp_path) as api:
        year = "from=2026-01-01&to=2026-12-01&tz=Asia/Kathmandu"
        summary = await api.json(f"/usage/summary?{year}")
        assert oracle.answered(summary) == oracle.measures(mine)
        hours = await api.json(f"/usage/timeseries?{year}&bucket=hour")
        assert sum(p["calls"] for p in hours["series"][0]["points"]) == len(mine)
        assert len((await api.json(f"/calls?{year}&limit=500"))["items"]) == len(mine)
        other = (await api.json(f"/usage/breakdown?{year}&by=tag.env,user_id&user_id=u'3"))["rows"]
        assert sum(row["calls"] for row in other) == sum(c["user_id"] == "u'3" for c in mine)
    await store.close()
