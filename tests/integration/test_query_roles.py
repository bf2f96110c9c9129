"""Who sees what inside an organisation: members their own calls, viewers sums, rankings as it allows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from infra.activity_rows import activity, insert_activity
from infra.ledger_rows import call, insert_calls
from infra.limit_rows import insert_limits
from infra.query_client import NOW, Caller, query_api
from infra.waiting import until
from tokentide_common.accounts import issue_key
from tokentide_common.limit_facts import LimitFact
from tokentide_common.store import Store, rows
from tokentide_query_api.routes import routes
from tokentide_query_api.store_wall import WALLED, WalledStore

# In every text of somebody else's calls: wherever it shows, they show.
OTHERS = "zoe-41c7"
HOUR = timedelta(hours=1)
FOR_VIEWERS = {route.path for route in routes() if route.for_viewers}
OF_PEOPLE = {route.path for route in routes() if not route.for_viewers}


async def fill(store: Store, api: Caller) -> None:
    """Give the member two calls, one by id and one by address, and others as many as it takes to notice."""
    me = api.who("member")
    mine = {"project": "p", "model": "m", "session_id": "mine", "machine_id": "desk", "cost_nano": 1}
    others = dict.fromkeys(("user_id", "user_email", "project", "model", "session_id", "machine_id"), OTHERS)
    await insert_calls(
        store,
        [
            call(call_id="by_id", user_id=me.user_id, **mine),
            call(call_id="by_address", user_email=me.email.upper(), **mine),
            *(call(call_id=f"{OTHERS}-{n}", **others, key_id=OTHERS, cost_nano=9) for n in range(5)),
            call(call_id=f"{OTHERS}-nobody", model=OTHERS, session_id="mine"),
            # The same person in another organisation: there they are somebody else.
            call(call_id="elsewhere", org_id="org_b", user_id=me.user_id, model=OTHERS, session_id="mine"),
        ],
    )
    told = {"kind": "input", "session_id": "no calls"}
    await insert_activity(
        store,
        [
            activity("client_tokens", 2, **told, user_email=me.email),
            activity(
                "client_tokens", 70, **{**told, "session_id": OTHERS + "2"}, user_id=OTHERS, model=OTHERS
            ),
        ],
    )
    met = LimitFact(provider="p", kind="unified_5h", org_id="org_a", observed_at=NOW, resets_at=NOW + HOUR)
    await insert_limits(store, [msgspec.structs.replace(met, account_id=OTHERS, key_id=OTHERS)])
    ranked = [(OTHERS, 45, 1), (me.user_id, 1, 2)]
    await store.insert(
        "rankings",
        b"\n".join(msgspec.json.encode(_ranking(s, ranked)) for s in ("users", "machines", "models")),
    )


def _ranking(scope: str, entries: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "org_id": "org_a", "period": "month", "period_start": "2026-11-01", "scope": scope, "metric": "cost",
        "version": 1 << 32, "time_zone": "UTC", "computed_at": "2026-11-22T10:00:00.000Z", "total": 46,
        "entries.entity": [e for e, _, _ in entries],
        "entries.value": [v for _, v, _ in entries],
        "entries.rank": [r for _, _, r in entries],
        "entries.previous_rank": [None for _ in entries],
        "entries.percentile": [50.0 for _ in entries],
        "entries.share": [0.5 for _ in entries],
    }  # fmt: skip


@contextlib.asynccontextmanager
async def served(store: Store, folder: Any, **options: Any) -> AsyncIterator[Caller]:
    async with query_api(store, folder, **options) as api:
        await fill(store, api)
        yield api


@pytest.fixture
async def api(store, tmp_path):
    async with served(store, tmp_path, privacy="private") as caller:
        yield caller


async def said(api: Caller, path: str, who: Any) -> Any:
    answer = await api.ask("GET", path, who)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _admitted(api: Caller, key: str) -> bool:
    return bool((await api.ask("GET", "/usage/summary", key)).status_code == 200)


async def test_a_member_meets_nobody_else_on_any_route(api):
    asked = sorted(FOR_VIEWERS | OF_PEOPLE)
    for path in asked:
        answer = await api.ask("GET", path.replace("{call_id}", f"{OTHERS}-1"), "member")
        assert answer.status_code in (200, 404), (path, answer.text)
        if answer.status_code == 200:
            assert OTHERS not in answer.text, path
    for more in (
        "/usage/breakdown?by=user_id,model", "/usage/timeseries?group_by=session_id",
        "/calls?model=" + OTHERS,
        "/usage/summary?user_id=" + OTHERS, "/activity?by=model,user_id", "/coverage?user_id=" + OTHERS,
    ):  # fmt: skip
        answer = await said(api, more, "member")
        assert answer.get("calls", 0) == 0
        assert answer.get("rows", answer.get("items", [])) == [] or OTHERS not in str(
            [row.get("key") for row in answer.get("rows", [])]
        )


async def test_a_members_numbers_are_those_of_their_own_calls(api):
    totals = await said(api, "/usage/summary", "member")
    assert (totals["calls"], totals["cost_usd"]) == (2, "0.000000002")
    assert {c["call_id"] for c in (await said(api, "/calls", "member"))["items"]} == {"by_id", "by_address"}
    (session,) = (await said(api, "/sessions", "member"))["items"]
    assert (session["session_id"], session["calls"]) == ("mine", 2)
    (covered,) = (await said(api, "/coverage", "member"))["items"]
    assert covered["calls"] == 2
    assert (await said(api, "/coverage/days", "member"))["total"]["calls"] == 2
    (done,) = (await said(api, "/activity", "member"))["rows"]
    assert done["value"] == "2"
    assert (await said(api, "/activity/metrics-only", "member"))["sessions"] == 1
    assert (await api.ask("GET", "/calls/by_address", "member")).status_code == 200
    assert (await api.ask("GET", f"/calls/{OTHERS}-1", "member")).status_code == 404
    # An admin sees the whole, and so does a key of the organisation.
    assert (await said(api, "/usage/summary", "admin"))["calls"] == 8
    assert (await api.json("/usage/summary"))["calls"] == 8


async def test_no_sum_that_a_viewer_gets_names_a_person(api, store):
    me = api.who("member")
    telling = ("user_id", "user_email", "machine_id", "key_id", "session_id", "prompt_id")
    await insert_calls(store, [call(**dict.fromkeys(telling, "PERSON"))])
    for path in sorted(FOR_VIEWERS - {"/rankings"}):
        answer = await api.ask("GET", path, "viewer")
        assert answer.status_code == 200, (path, answer.text)
        assert not any(name in answer.text for name in ("PERSON", me.user_id, me.email)), path


async def test_a_viewer_gets_sums_and_no_way_to_tell_people_apart(api):
    for path in sorted(OF_PEOPLE):
        answer = await api.ask("GET", path.replace("{call_id}", "by_id"), "viewer")
        assert (answer.status_code, answer.json()["code"]) == (403, "aggregates_only"), path
    for refused in (
        "/usage/breakdown?by=user_id", "/usage/timeseries?group_by=model,machine_id",
        "/usage/summary?user_email=x",
        "/usage/summary?not_session_id=x", "/activity?by=device_id", "/activity?account_id=x",
        "/usage/breakdown?by=tag.x", "/usage/summary?not_tag.x=y", "/coverage/days?key_id=x",
        "/rankings", "/rankings?scope=machines",
    ):  # fmt: skip
        answer = await api.ask("GET", refused, "viewer")
        assert (answer.status_code, answer.json()["code"]) == (403, "aggregates_only"), refused
    assert (await said(api, "/usage/summary", "viewer"))["calls"] == 8
    by_model = (await said(api, "/usage/breakdown?by=agent,model", "viewer"))["rows"]
    assert sum(row["calls"] for row in by_model) == 8
    assert (await said(api, "/rankings?scope=models", "viewer"))["items"]


async def test_a_private_ranking_shows_a_member_their_own_row_with_its_rank(api):
    me = api.who("member")
    found = await said(api, "/rankings", "member")
    assert [(item["entity"], item["rank"]) for item in found["items"]] == [(me.user_id, 2)]
    assert len((await said(api, "/rankings", "admin"))["items"]) == 2
    assert (await api.ask("GET", "/rankings?scope=machines", "member")).status_code == 403


async def test_a_pseudonymous_ranking_names_only_the_member_themselves(store, tmp_path):
    async with served(store, tmp_path, privacy="pseudonymous") as api:
        me = api.who("member")
        other, own = (await said(api, "/rankings", "member"))["items"]
        assert own["entity"] == me.user_id
        assert (other["rank"], other["value"]) == (1, "0.000000045")
        assert other["entity"].startswith("anonymous-")
        again = (await said(api, "/rankings", "member"))["items"][0]["entity"]
        assert again == other["entity"]
        machines = (await said(api, "/rankings?scope=machines", "member"))["items"]
        assert all(item["entity"].startswith("anonymous-") for item in machines)
        assert (await said(api, "/rankings", "owner"))["items"][0]["entity"] == OTHERS


async def test_an_open_ranking_names_everybody(store, tmp_path):
    async with served(store, tmp_path) as api:
        for role in ("viewer", "member", "admin", "owner"):
            assert (await said(api, "/rankings", role))["items"][0]["entity"] == OTHERS


async def test_a_member_sees_the_limits_that_their_own_keys_met(api, store):
    me = api.who("member")
    _, mine = issue_key(api.people.engine, "org_a", "p", owner_id=me.user_id)
    fact = LimitFact(provider="p", kind="requests", org_id="org_a", observed_at=NOW, account_id="x")
    await insert_limits(store, [msgspec.structs.replace(fact, key_id=mine.key_id)])
    new, _ = issue_key(api.people.engine, "org_a", "a", role="member", owner_id=me.user_id)
    await until(lambda: _admitted(api, new))
    found = await said(api, "/limits", new)
    assert [item["account"] for item in found["items"]] == ["x"]
    assert len((await said(api, "/limits", "admin"))["items"]) == 2
    # A key reads for its owner, never for more than that owner may.
    assert (await said(api, "/usage/summary", new))["calls"] == 2


async def test_the_store_hides_other_organisations_from_a_statement_that_forgot_its_own(store):
    with_org = await rows(
        store,
        "SELECT table FROM system.columns AS c JOIN system.tables AS t"
        " ON t.database = c.database AND t.name = c.table"
        " WHERE c.database = currentDatabase() AND c.name = 'org_id' AND t.engine != 'MaterializedView'"
        " ORDER BY table",
    )
    assert [row["table"] for row in with_org] == sorted(WALLED)
    await insert_calls(
        store, [call(org_id="org_a", user_id="u"), call(org_id="org_b", user_id="u", model=OTHERS)]
    )
    await insert_activity(store, [activity("commits", 1, org_id="org_b")])
    await store.insert(
        "rankings", msgspec.json.encode({**_ranking("users", [(OTHERS, 1, 1)]), "org_id": "org_b"})
    )
    walled = WalledStore(store, ["org_a"])
    for table in WALLED:
        both = f"SELECT x.org_id AS o FROM {table} AS x UNION ALL SELECT y.org_id AS o FROM {table} AS y"
        forged = f"o = 'org_b' OR 'org_b' IN (SELECT z.org_id FROM {table} AS z)"
        forgot = await rows(walled, f"SELECT org_id AS o FROM {table} AS x")
        assert {row["o"] for row in forgot} <= {"org_a"}, table
        assert await rows(walled, f"SELECT * FROM ({both}) WHERE {forged}") == [], table
    # The store has it: the wall is what hides it.
    assert await rows(store, "SELECT 1 AS one FROM usage_day WHERE org_id = 'org_b'")
    assert await rows(WalledStore(store, ["org_a"]), "SELECT 1 AS one FROM usage_day")
    assert await rows(
        WalledStore(store, ["org_a", "org_b"]), "SELECT 1 AS one FROM usage_day WHERE org_id = 'org_b'"
    )
