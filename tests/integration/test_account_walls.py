"""What is another organisation's cannot be told from what does not exist, and hostile text stays text."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa

from infra.query_client import Caller, query_api
from tokentide_common import accounts_schema
from tokentide_common.accounts_schema import api_keys, machines
from tokentide_common.database import reading, utc_now, writing
from tokentide_common.problem import MEDIA_TYPE

AREAS = (
    "keys",
    "machines",
    "users",
    "invitations",
    "teams",
    "organisations",
    "providers",
    "audit",
    "plans",
    "budgets",
)
BODIES: dict[str, Any] = {
    "keys": {"name": "x"},
    "machines": {"name": "x"},
    "users": {"role": "viewer"},
    "teams": {"name": "x"},
    "organisations": {"name": "x"},
    "providers": {"secret": "sk-mine"},
    "plans": {"monthly_usd": "1"},
    "budgets": {"amount": "2"},
}
HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE api_keys; --",
    '" OR ""="',
    "1) UNION SELECT digest FROM api_keys --",
    "%00",
    "\u202e\u0000\U0001f4a3",
    "../../../etc/passwd",
    "..%2f..%2faudit",
    "%",
    "_",
    "\\",
    "x\r\nset-cookie: owned=1",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "a" * 300,
]


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(
        store, tmp_path, rate_write_per_minute=100_000, rate_read_per_minute=100_000
    ) as caller:
        yield caller


async def furnish(api: Caller, org: str) -> dict[str, str]:
    """Give an organisation one of everything; return the ids as paths name them."""
    owner = api.who("owner", org)
    key = await api.ask("POST", "/keys", owner, body={"kind": "a", "name": f"of {org}"})
    team = await api.ask("POST", "/teams", owner, body={"name": f"of {org}"})
    letter = {"email": f"new@{org}.example"}
    invited = await api.ask("POST", "/invitations", owner, body=letter)
    held = {"user": "x", "plan": "pro", "valid_from": "2026-11-01"}
    plan = await api.ask("POST", "/plans", owner, body=held)
    budget = await api.ask("POST", "/budgets", owner, body={"name": "x", "amount": "1"})
    assert budget.status_code == 201
    assert {key.status_code, team.status_code, invited.status_code, plan.status_code} == {201}
    seen = {"first_seen_at": utc_now(), "last_seen_at": utc_now()}
    with writing(api.people.engine) as connection:
        row = {"org_id": org, "machine_id": f"machine-of-{org}", "user_id": owner.user_id}
        connection.execute(sa.insert(machines).values(row | seen))
    kept = await api.ask("PUT", f"/providers/of-{org[-1]}", owner, body={"secret": "sk-x"})
    assert kept.status_code == 204
    return {
        "key_id": key.json()["key_id"],
        "team_id": team.json()["team_id"],
        "plan_id": plan.json()["plan_id"],
        "budget_id": budget.json()["budget_id"],
        "invitation_id": invited.json()["invitation_id"],
        "machine_id": f"machine-of-{org}",
        "user_id": api.who("member", org).user_id,
        "org_id": org,
        "name": f"of-{org[-1]}",
    }


async def routes(api: Caller) -> list[tuple[str, str]]:
    paths = (await api.client.get("/schema")).json()["paths"]
    return sorted(
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in paths.items()
        for method in operations
        if path.split("/")[3] in AREAS
    )


def told(answer: Any) -> Any:
    """Return all that an answer tells, but for the request's id."""
    headers = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
    body = answer.json() if answer.content else None
    if isinstance(body, dict):
        body.pop("instance", None)
        headers.pop("content-length", None)
    return answer.status_code, headers, body


def everything(api: Caller, org: str) -> list[tuple[object, ...]]:
    """Return all rows of an organisation but its log."""
    with reading(api.people.engine) as connection:
        return [
            tuple(row)
            for table in accounts_schema.metadata.sorted_tables
            if "org_id" in table.c and table.name not in {"audit_log", "outbox"}
            for row in connection.execute(sa.select(table).where(table.c.org_id == org))
        ]


async def test_no_route_tells_another_organisations_thing_from_one_that_does_not_exist(api):
    ours, theirs = await furnish(api, "org_a"), await furnish(api, "org_b")
    # As long as a real one, so that nothing differs but whether it exists.
    absent = {k: re.sub("[0-9a-f]{32}$", "0" * 32, v).replace("org_b", "org_x") for k, v in theirs.items()}
    absent["name"] = "of-x"
    before, compared = everything(api, "org_b"), 0
    for method, path in await routes(api):
        names = re.findall(r"{(\w+)}", path)
        body = BODIES[path.split("/")[1]] if method in {"PATCH", "PUT"} and "members" not in path else None
        for foreign in names if (method, path) != ("PUT", "/providers/{name}") else ():
            answers = []
            for ids in (theirs, absent):
                asked = path.format(**{**ours, foreign: ids[foreign]})
                answers.append(await api.ask(method, asked, "owner", body=body, headers={"if-match": "*"}))
            assert told(answers[0]) == told(answers[1]), (method, path, foreign)
            kept = (method, foreign) == ("DELETE", "user_id") and "teams" in path
            assert answers[0].status_code == (204 if kept else 404), (method, path, answers[0].text)
            compared += 1
    assert compared > 18
    assert everything(api, "org_b") == before


async def test_an_id_in_a_body_is_no_way_around_the_wall(api):
    ours, theirs = await furnish(api, "org_a"), await furnish(api, "org_b")
    before = everything(api, "org_b")
    for method, path, field, foreign in [
        ("POST", "/keys", "owner_id", theirs["user_id"]),
        ("POST", "/invitations", "team_id", theirs["team_id"]),
        ("PATCH", f"/machines/{ours['machine_id']}", "user_id", theirs["user_id"]),
    ]:
        common = {"/keys": {"kind": "m", "name": "x"}, "/invitations": {"email": "x@y.example"}}.get(path, {})
        answers = [
            await api.ask(method, path, "owner", body={**common, field: value}, headers={"if-match": "*"})
            for value in (foreign, re.sub("[0-9a-f]{32}$", "0" * 32, foreign))
        ]
        assert told(answers[0]) == told(answers[1])
        assert answers[0].status_code == 400
    assert everything(api, "org_b") == before


async def test_lists_and_log_of_an_organisation_hold_nothing_of_another(api):
    ours, theirs = await furnish(api, "org_a"), await furnish(api, "org_b")
    for method, path in await routes(api):
        if method != "GET" or "{" in path:
            continue
        text = (await api.ask("GET", f"{path}?limit=500", "owner")).text
        assert "items" in text
        assert [value for value in theirs.values() if value in text] == [], path
    for narrowing in (theirs["key_id"], theirs["team_id"], api.who("owner", "org_b").user_id):
        for name in ("object_id", "actor_id"):
            lines = await api.ask("GET", f"/audit?{name}={narrowing}", "owner")
            assert lines.json() == {"items": [], "next_cursor": None}
    assert ours["key_id"] in (await api.ask("GET", "/keys", "owner")).text


async def test_a_cursor_of_one_organisation_opens_nothing_in_another(api):
    for org in ("org_a", "org_b"):
        await furnish(api, org)
    page = (await api.ask("GET", "/users?limit=1", "owner")).json()
    assert page["next_cursor"]
    stolen = await api.ask("GET", f"/users?limit=1&cursor={page['next_cursor']}", api.who("owner", "org_b"))
    assert (stolen.status_code, stolen.json()["code"]) == (400, "invalid_cursor")


async def test_hostile_text_in_paths_queries_headers_and_bodies_is_only_text(api):
    await furnish(api, "org_a")
    before = len(everything(api, "org_a")), len(everything(api, "org_b"))
    for method, path in await routes(api):
        for text in HOSTILE:
            escaped = "".join(f"%{byte:02x}" for byte in text.encode())
            named = re.sub(r"{\w+}", escaped, path)
            options: dict[str, Any] = {"headers": {"if-match": text.encode().translate(None, b"\r\n\0")}}
            if "{" not in path and method == "GET":
                options["params"] = dict.fromkeys(("cursor", "kind", "action", "object_id", "from"), text)
            body = (
                {"name": text, "secret": text, "email": text} if method in {"POST", "PUT", "PATCH"} else None
            )
            answer = await api.ask(method, named, "owner", body=body, **options)
            assert answer.status_code in {400, 404, 405, 412, 204}, (method, path, text, answer.text)
            assert answer.status_code != 204 or method in {"PUT", "DELETE"}
            assert answer.content == b"" or answer.headers["content-type"] == MEDIA_TYPE
            assert "set-cookie" not in answer.headers
            for leaked in ("sqlite", "psycopg", "Traceback", "SELECT "):
                assert leaked not in answer.text or leaked in text
    assert (len(everything(api, "org_a")), len(everything(api, "org_b"))) == before


async def test_names_are_kept_as_they_were_written(api):
    for text in [text for text in HOSTILE if len(text) < 200 and not re.search(r"[\x00-\x1f]", text)]:
        made = await api.ask("POST", "/keys", "owner", body={"kind": "m", "name": text, "project": text})
        assert made.status_code == 201, made.text
        assert (made.json()["name"], made.json()["project"]) == (text, text)
    with reading(api.people.engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(api_keys)).scalar_one() > 8


GUESSED = [
    "/api/v1/keys/",
    "/api/v1//keys",
    "//api/v1/keys",
    "/API/V1/KEYS",
    "/api/v1/keys/%2e%2e/audit",
    "/api/v1/machines/..%2faudit",
    "/api/v1/machines/x/../../audit",
    "/api/v1/keys;/audit",
    "/api/v1/keys%00",
    "/api/v1/keys.json",
    "/api/v1/audit?include_revoked=true&role=owner&org_id=org_a",
]


async def test_without_good_credentials_no_path_answers_anything(api):
    ids = await furnish(api, "org_a")
    paths = [f"/api/v1{path}".format(**ids) for method, path in await routes(api) if method == "GET"]
    wrong = [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {api.keys['org_a']}"},
        {"authorization": f"Bearer {api.who('owner').token[:-2]}xx"},
        {"authorization": f"Bearer {api.other_keys['m']}"},
        {"x-tokentide-key": api.other_keys["p"]},
        {"x-user-id": api.who("owner").user_id, "x-org-id": "org_a", "cookie": "role=owner"},
    ]
    for headers in wrong:
        for path in [*paths, *GUESSED]:
            answer = await api.client.get(path, headers=headers)
            assert answer.status_code in ({401} if path in paths else {400, 401, 404}), (path, headers)
            assert [value for value in ids.values() if value in answer.text and value not in path] == []


async def test_a_guessed_path_shows_no_more_than_the_one_that_it_means(api):
    await furnish(api, "org_a")
    headers = {"authorization": f"Bearer {api.who('viewer').token}"}
    for path in GUESSED:
        answer = await api.client.get(path, headers=headers)
        assert answer.status_code in {400, 403, 404}, (path, answer.text)
