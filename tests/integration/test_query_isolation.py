"""Nothing of one organisation reaches another: rows, counts, names or the text of an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.activity_rows import activity, insert_activity
from infra.ledger_rows import call, insert_calls
from infra.limit_rows import insert_limits
from infra.query_client import query_api
from tokentide_common.limit_facts import LimitFact
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.routes import routes

HOSTILE = (
    "x' OR 1=1 --",
    "') OR 1=1 OR x.org_id IN ('",
    "org_b",
    "'; DROP TABLE ledger; --",
    "{org:String}",
    "\\' UNION ALL SELECT * FROM ledger --",
    "\x00",
    "1) OR (1",
    "`",
    "*/",
    "%s%(org)s",
    "\\",
)
ROUTE_PARAMETERS = {p.name for route in routes() for p in route.parameters}
NAMES = sorted(ROUTE_PARAMETERS | {"tag.x", f"tag.{HOSTILE[0]}", "not_tag.x", "org_id"})
VALUES = [*HOSTILE, "day", "model", "1", "7d", "json", "csv"]
PATHS = tuple(route.path for route in routes())
# The second organisation has a twin of every call, with its name in every text: any leak is visible.
SECRET = "theirs-7f3a"


def own_tokens(value: int, org_id: str = "org_a", text: str = "") -> dict[str, Any]:
    """Return tokens that a client's metric knows, of a session without calls."""
    told = dict.fromkeys(ACTIVITY_DIMENSIONS, text) | {"session_id": f"without calls {text}", "kind": "input"}
    return activity("client_tokens", value, **told, org_id=org_id)


# But for the last of them, all only read.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(shared_store, tmp_path_factory):
    texts = [name for name, d in DIMENSIONS.items() if d.kind.value == "text" and name != "status"]
    mine = [
        call(call_id=f"req_{n}", model="m", session_id="s", user_id="u", cost_nano=n) for n in range(1, 5)
    ]
    theirs = [
        {**c, "org_id": "org_b", "cost_nano": 7_000_000_000, **dict.fromkeys(texts, SECRET)} for c in mine
    ]
    theirs += [{**c, "call_id": f"{SECRET}-{n}"} for n, c in enumerate(theirs)]
    for c in theirs:
        c.update(token_source="cli", tags={SECRET: SECRET})
    await insert_calls(shared_store, [*mine, *theirs])
    await insert_activity(shared_store, [own_tokens(2), own_tokens(7, "org_b", SECRET)])
    mine_too = LimitFact(provider="p", kind="requests", org_id="org_a", observed_at=datetime.now(UTC))
    theirs_too = msgspec.structs.replace(
        mine_too, org_id="org_b", **dict.fromkeys(("key_id", "model", "status"), SECRET)
    )
    await insert_limits(shared_store, [mine_too, theirs_too])
    async with query_api(shared_store, tmp_path_factory.mktemp("isolation")) as caller:
        yield caller


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(PATHS),
    pairs=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20)), max_size=4
    ),
)
async def test_no_parameter_of_any_route_shows_another_organisation(api, path, pairs):
    answer = await api.get(f"{path.replace('{call_id}', 'req_1')}?{urlencode(pairs)}")
    assert answer.status_code in (200, 400, 404), answer.text
    assert SECRET not in answer.text
    # Whatever was asked, the tables are all there and unharmed.
    assert (await api.json("/usage/summary?from=30d"))["calls"] == 4
    assert (await api.json("/usage/summary?from=30d", "org_b"))["calls"] == 8


# What has nothing to say of these calls, or says the same to everyone.
ALIKE = {"/rankings", "/leaderboard", "/reports"} | {
    f"/reports/{name}" for name in ("quota", "anomalies", "cache-losses", "unpriced", "plan-savings")
}


@pytest.mark.parametrize("path", [p for p in PATHS if p not in ALIKE])
async def test_two_organisations_with_the_same_ids_each_see_their_own(api, path):
    asked = path.replace("{call_id}", "req_2")
    mine, theirs = await api.get(asked, "org_a"), await api.get(asked, "org_b")
    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert SECRET not in mine.text
    assert mine.json() != theirs.json()


@pytest.mark.parametrize("path", PATHS)
async def test_only_an_api_key_reads(api, path):
    asked = path.replace("{call_id}", "req_1")
    answers = [
        await api.client.get(f"/api/v1{asked}"),
        await api.client.get(f"/api/v1{asked}?x=1"),
        await api.get(asked, key=api.other_keys["m"]),
        await api.get(asked, key=api.other_keys["p"]),
        await api.get(asked, key=api.keys["org_a"][:-1] + "!"),
        await api.get(asked, key="tt_a_nonsense"),
    ]
    problems = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    # One answer for all: it does not say whether a key exists.
    assert len({msgspec.json.encode({**p, "instance": ""}) for p in problems}) == 1


async def test_the_key_is_taken_from_either_header(api):
    own: dict[str, Any] = {"x-tokentide-key": api.keys["org_b"]}
    assert (await api.client.get("/api/v1/usage/summary", headers=own)).json()["calls"] == 8


@pytest.mark.asyncio(loop_scope="function")
async def test_values_with_any_characters_are_found_as_they_are(store, tmp_path):
    awkward = [
        "a'b",
        "a\\b",
        "a\tb\nc",
        "\\'",
        "'",
        "{p1:String}",
        "ü 🙂",
        "%",
        "]",
        "a,b",
        "\\N",
        "NULL",
        "",
    ]
    await insert_calls(store, [call(project=value, tags={value or "k": value}) for value in awkward])
    async with query_api(store, tmp_path) as api:
        for value in awkward:
            found = await api.json(f"/calls?{urlencode({'project': value})}")
            assert [c["project"] for c in found["items"]] == [value]
            others = await api.json(f"/usage/summary?{urlencode({'not_project': value})}")
            assert others["calls"] == len(awkward) - 1
        tagged = await api.json(f"/usage/breakdown?{urlencode({'by': 'tag.' + awkward[0]})}")
        assert [row["key"] for row in tagged["rows"] if row["calls"] == 1] == [{"tag.a'b": "a'b"}]
