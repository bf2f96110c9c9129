"""The table of docs/reference/roles.md is what the routes do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from infra.query_client import query_api
from tokentide_common.accounts_schema import machines
from tokentide_common.database import utc_now, writing

PAGE = (Path(__file__).parents[2] / "docs/reference/roles.md").read_text("utf-8")
ROW = re.compile(r"^\| `([A-Z]+) (/[^`]+)` \| (\w+) \| (\w+) \| (\w+) \| (\w+) \|$", re.M)
ROLES = ("viewer", "member", "admin", "owner")
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
    "repricing",
)
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/keys"): {"kind": "m", "name": "x"},
    ("PATCH", "/keys/{key_id}"): {"name": "x"},
    ("PATCH", "/machines/{machine_id}"): {"name": "x"},
    ("PATCH", "/users/{user_id}"): {"role": "viewer"},
    ("POST", "/invitations"): {"email": "new@org_a.example", "role": "viewer"},
    ("POST", "/invitations/accept"): {"token": "none"},
    ("POST", "/teams"): {"name": "T"},
    ("PATCH", "/teams/{team_id}"): {"name": "x"},
    ("POST", "/organisations"): {"name": "New"},
    ("PATCH", "/organisations/{org_id}"): {"name": "x"},
    ("PUT", "/providers/{name}"): {"secret": "sk-x"},
    ("POST", "/plans"): {"user": "x", "plan": "pro", "valid_from": "2026-11-01"},
    ("PATCH", "/plans/{plan_id}"): {"monthly_usd": "1"},
    ("POST", "/budgets"): {"name": "x", "amount": "1"},
    ("PATCH", "/budgets/{budget_id}"): {"amount": "2"},
    ("POST", "/repricing"): {"dry_run": True},
}


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


def documented() -> dict[tuple[str, str], dict[str, str]]:
    return {(m, path): dict(zip(ROLES, cells, strict=True)) for m, path, *cells in ROW.findall(PAGE)}


async def test_the_table_has_every_route_of_accounts(api):
    paths = (await api.client.get("/schema")).json()["paths"]
    served = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in paths.items()
        for method in operations
        if path.split("/")[3] in AREAS
    }
    assert served == set(documented())


async def test_each_role_may_do_what_the_table_says(api):
    colleague = api.who("owner")
    key = await api.ask("POST", "/keys", colleague, body={"kind": "m", "name": "theirs"})
    machine = {"org_id": "org_a", "machine_id": "theirs", "user_id": colleague.user_id}
    seen = {"first_seen_at": utc_now(), "last_seen_at": utc_now()}
    with writing(api.people.engine) as connection:
        connection.execute(sa.insert(machines).values(machine | seen))
    held = {"user": "theirs", "plan": "pro", "valid_from": "2026-11-01"}
    plan = await api.ask("POST", "/plans", colleague, body=held)
    theirs = {"key_id": key.json()["key_id"], "machine_id": "theirs", "user_id": colleague.user_id}
    theirs["plan_id"] = plan.json()["plan_id"]
    budget = await api.ask("POST", "/budgets", colleague, body={"name": "theirs", "amount": "1"})
    theirs["budget_id"] = budget.json()["budget_id"]
    none = dict.fromkeys(
        ("key_id", "machine_id", "user_id", "team_id", "invitation_id", "plan_id", "budget_id"), "none"
    )
    known = {"org_id": "org_a", "name": "anthropic"}
    wrong = []
    for (method, path), cells in documented().items():
        for role, cell in cells.items():
            own = cell == "own" and "{" in path
            named = path.format(**(theirs if own else none) | known)
            named = named if own or "user_id" not in path else named.replace("none", "usr_none")
            answer = await api.ask(
                method, named, role, body=BODIES.get((method, path)), headers={"if-match": '"v9"'}
            )
            status = answer.status_code
            allowed = status in {200, 201, 204, 400, 404, 409, 412}
            fits = {"yes": allowed, "no": status == 403, "own": status in {403, 404} if own else allowed}
            if not fits[cell]:
                wrong.append((method, path, role, cell, status))
    assert wrong == []


async def test_whoever_has_a_key_of_an_organisation_does_what_its_role_may_and_nothing_that_takes_a_user(api):
    for path, body in (("/organisations", {"name": "x"}), ("/invitations/accept", {"token": "x"})):
        answer = await api.ask("POST", path, api.keys["org_a"], body=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "user_needed")
    assert (await api.ask("GET", "/audit", api.keys["org_a"])).status_code == 200
    made = await api.ask("POST", "/keys", "owner", body={"kind": "a", "name": "reads", "scopes": ["read"]})
    answer = await api.ask("GET", "/organisations", made.json()["key"])
    assert answer.status_code == 403
    for kind in "mp":
        assert (await api.ask("GET", "/organisations", api.other_keys[kind])).status_code == 401
