"""The OpenAPI document names every route and parameter, and the reference page explains them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import KeyDirectory
from tokentide_common.database import open_database
from tokentide_common.store import Store
from tokentide_query_api import activity_words
from tokentide_query_api.app import create_app
from tokentide_query_api.buckets import BUCKETS
from tokentide_query_api.dimensions import DIMENSIONS, METRICS
from tokentide_query_api.parameters import FILTERS
from tokentide_query_api.periods import NAMED_PERIODS
from tokentide_query_api.routes import PREFIX, routes
from tokentide_query_api.settings import QuerySettings

REFERENCE = Path(__file__).parents[3] / "docs/reference"
PAGE = "\n".join((REFERENCE / name).read_text("utf-8") for name in ("query-api.md", "money.md"))


@pytest.fixture
def client(tmp_path):
    engine = open_database(migrated_sqlite(tmp_path / "a.db"))
    store = Store("clickhouse://127.0.0.1:9/away")  # nothing here needs it
    app = create_app(QuerySettings(), store=store, engine=engine, keys=KeyDirectory(engine))
    with TestClient(app) as opened:
        yield opened
    engine.dispose()


def test_the_document_has_every_reading_route_with_its_parameters(client):
    answer = client.get("/schema")
    assert answer.status_code == 200
    document: dict[str, Any] = msgspec.json.decode(answer.content)
    assert document["openapi"].startswith("3.")
    assert {PREFIX + route.path for route in routes()} <= set(document["paths"])
    for route in routes():
        operation = document["paths"][PREFIX + route.path]["get"]
        names = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
        assert names == {p.name for p in route.parameters}
        assert {"200", "400", "401", "503"} <= set(operation["responses"])
        media = operation["responses"]["200"]["content"]
        assert set(media) == {
            "application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.parquet",
        }  # fmt: skip
    by_id = document["paths"][f"{PREFIX}/calls/{{call_id}}"]["get"]
    assert [p["name"] for p in by_id["parameters"] if p["in"] == "path"] == ["call_id"]


def test_the_reference_page_documents_every_route_parameter_and_word(client):
    sections = dict(re.findall(r"^## `GET (\S+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    # Each named report is described on a page of its own, which is written from the code.
    described = [route for route in routes() if not route.path.startswith("/reports/")]
    streams = {
        f"{PREFIX}/live",
        f"{PREFIX}/export/calls",
    }  # no reading routes: their answers are not made as a whole
    assert set(sections) - streams == {PREFIX + route.path for route in described}
    common = PAGE.partition("\n## `GET ")[0]
    for route in described:
        for parameter in route.parameters:
            if parameter not in (*FILTERS, *activity_words.FILTERS):
                assert f"`{parameter.name}`" in common + sections[PREFIX + route.path], (
                    route.path,
                    parameter.name,
                )
    for word in (*DIMENSIONS, *activity_words.ACTIVITY_DIMENSIONS, *METRICS, *BUCKETS, *NAMED_PERIODS):
        assert f"`{word}`" in PAGE, word


def test_the_landing_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)
