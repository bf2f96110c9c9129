"""Every reading route tells the same facts in JSON, CSV, NDJSON and Parquet."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from infra import query_oracle as oracle
from infra.query_client import query_api

YEAR = "from=2026-01-01&to=2026-12-01"
SUMMARY, SERIES = (
    f"/usage/summary?{YEAR}",
    f"/usage/timeseries?{YEAR}&bucket=month&group_by=model,is_sidechain",
)
BREAKDOWN, CALLS = f"/usage/breakdown?{YEAR}&by=user_id,http_status&limit=3", f"/calls?{YEAR}&limit=20"
SESSIONS, COVERAGE = f"/sessions?{YEAR}&limit=2", f"/coverage?{YEAR}"
PATHS = (SUMMARY, SERIES, BREAKDOWN, CALLS, SESSIONS, COVERAGE)
ACCEPT = {"csv": "text/csv", "ndjson": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


# All of them only read.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(shared_store, tmp_path_factory):
    await oracle.fill(shared_store, seed=5, zone="Europe/Berlin", size=60)
    async with query_api(shared_store, tmp_path_factory.mktemp("formats")) as caller:
        yield caller


def table(path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Flatten a JSON answer the way that the other formats are documented to."""
    if path == SUMMARY:
        flat = {f"{n}_{q}": v for n in ("duration_ms", "ttft_ms") for q, v in body.pop(n).items()}
        return [{**body, **flat}]
    if path == SERIES:
        return [{**s["key"], **point} for s in body["series"] for point in s["points"]]
    if path == BREAKDOWN:
        rows = [{"is_other": False, **row.pop("key"), **row} for row in body["rows"]]
        body["other"].pop("groups")
        return [*rows, {"is_other": True, "user_id": None, "http_status": None, **body["other"]}]
    if path == COVERAGE:
        return [{**{f"seen_by_{s}": n for s, n in i.pop("seen_by").items()}, **i} for i in body["items"]]
    return list(body["items"])


def csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    return str(value)


def parquet_cell(value: Any, like: Any) -> Any:
    if isinstance(like, datetime):
        return datetime.fromisoformat(value)
    if isinstance(like, Decimal):
        return Decimal(value)
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


@pytest.mark.parametrize("path", PATHS)
async def test_csv_ndjson_and_parquet_tell_what_json_tells(api, path):
    expected = table(path, await api.json(path))
    assert expected
    text = (await api.get(f"{path}&format=csv")).text
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
        {name: csv_cell(value) for name, value in row.items()} for row in expected
    ]
    lines = (await api.get(f"{path}&format=ndjson")).content.splitlines()
    assert [msgspec.json.decode(line) for line in lines] == expected
    parquet = pq.read_table(io.BytesIO((await api.get(f"{path}&format=parquet")).content)).to_pylist()
    assert parquet == [
        {n: parquet_cell(row[n], like) for n, like in got.items()}
        for row, got in zip(expected, parquet, strict=True)
    ]
    assert [set(row) for row in parquet] == [set(row) for row in expected]


@pytest.mark.parametrize("path", [*PATHS, "/rankings?scope=models"])
@pytest.mark.parametrize("fmt", ["csv", "ndjson", "parquet"])
async def test_accept_chooses_the_format_like_the_parameter(api, path, fmt):
    by_header = await api.get(path, headers={"accept": f"{ACCEPT[fmt]}, application/json;q=0.5"})
    by_parameter = await api.get(f"{path}&format={fmt}")
    assert by_header.status_code == 200
    assert by_header.headers["content-type"].startswith(ACCEPT[fmt])
    assert by_header.headers["content-type"] == by_parameter.headers["content-type"]
    assert by_header.content == by_parameter.content


@pytest.mark.parametrize("path", PATHS)
async def test_an_empty_answer_still_names_its_columns_and_types(api, path):
    nothing = path.replace("2026-01-01", "2025-01-01").replace("2026-12-01", "2025-01-02") + "&model=none"
    full = pq.read_schema(io.BytesIO((await api.get(f"{path}&format=parquet")).content))
    empty = pq.read_schema(io.BytesIO((await api.get(f"{nothing}&format=parquet")).content))
    assert empty == full
    header = (await api.get(f"{nothing}&format=csv")).text.splitlines()[0]
    assert header.split(",") == full.names


async def test_formats_without_a_body_of_their_own_name_the_next_page_in_a_header(api):
    first = await api.get(f"{SESSIONS}&format=csv")
    cursor = (await api.json(SESSIONS))["next_cursor"]
    assert first.headers["x-next-cursor"] == cursor
    link = first.headers["link"].removeprefix("</api/v1").removesuffix('>; rel="next"')
    second = await api.get(link)
    assert second.text == (await api.get(f"{SESSIONS}&format=csv&cursor={cursor}")).text
    assert "link" not in (await api.get(f"{COVERAGE}&format=csv")).headers


@pytest.mark.parametrize("accept", ["*/*", "", "text/html,application/xhtml+xml;q=0.9", "application/*"])
async def test_json_is_what_a_caller_gets_who_did_not_choose(api, accept):
    assert (await api.get(SUMMARY, headers={"accept": accept})).headers["content-type"] == "application/json"


async def test_a_format_that_does_not_exist_is_refused(api):
    for options in ({"path": f"{SUMMARY}&format=xml"}, {"path": SUMMARY, "headers": {"accept": "image/png"}}):
        answer = await api.get(**options)
        assert answer.status_code in (400, 406)
        assert answer.headers["content-type"] == "application/problem+json"
