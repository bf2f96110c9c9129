"""Nothing crosses between organisations, on whatever route of the OpenAPI document, for whatever role.

Each route is asked twice: with ids of the other organisation, and with ids that nobody has. Both answers must
be the same, so that nobody learns that something exists. Nor may their time tell: for both, the accounts
database is asked the same statements, of which the id is one of several conditions. A clock would only
measure the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from infra.accounts_people import Person
from infra.ledger_rows import call, insert_calls
from infra.query_client import Caller, query_api
from infra.waiting import until
from tokentide_query_api.dimensions import DIMENSIONS

# In every name of the other organisation: wherever it shows, something has crossed.
SECRET = "theirs-7f3a"
CALLERS = ("owner", "admin", "member", "viewer", "key", "nobody")
NUMBERS = count(1000)
# What a made-up body needs beside what its schema demands.
NEEDED_TOO = {"/api/v1/plans": {"monthly_usd": "20"}}
METHODS = ("get", "post", "put", "patch", "delete")
# What a caller does to themselves, and no other organisation can have a part in.
LEFT_OUT = {("get", "/api/v1/auth/oidc/{provider}/start"), ("get", "/api/v1/auth/oidc/{provider}/callback")}


# For no request: asked by the clock, or after the answer to a log-in; and what begins every transaction.
NO_REQUESTS = re.compile(
    r"^BEGIN|^PRAGMA|\b(revisions|leases|outbox|alert_deliveries|budget_alerts|organizations|memberships"
    r"|last_used_at|login_failures)\b|FROM budget(s|_stops)$|sessions WHERE revoked_at"
)


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """Every statement to the accounts database, as it comes, without its values."""
    statements: list[str] = []

    def note(*told: Any) -> None:
        if not NO_REQUESTS.search(told[2]):
            statements.append(told[2])

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


class Twin:
    """The other organisation: ids of everything that it has, and of nothing."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self.ids = ids
        self.nothing = {name: re.sub(r"[0-9a-f]{6}$", "000000", value) for name, value in ids.items()}
        self.nothing["org_id"] = "org_x"


async def twin(api: Caller, document: Mapping[str, Any]) -> Twin:
    """Fill the other organisation as its owner would, and give the first one things of the same kinds."""
    ids: dict[str, str] = {}
    for org in ("org_a", "org_b"):
        owner = api.who("owner", org)
        name = SECRET if org == "org_b" else "ours"
        machine_id = f"{name}-machine-abcdef"
        team = await made(api, owner, "/teams", {"name": name})
        mail = {"email": f"x@{name}.example"}
        invitation = await made(api, owner, "/invitations", mail | {"team_id": team["team_id"]})
        key = await made(api, owner, "/keys", {"kind": "m", "name": name, "machine_id": machine_id})
        ids = {
            "org_id": org,
            "team_id": team["team_id"],
            "invitation_id": invitation["invitation_id"],
            "key_id": key["key_id"],
            "user_id": api.who("member", org).user_id,
            "owner_id": api.who("member", org).user_id,
            "machine_id": machine_id,
            "call_id": f"{name}-call-abcdef",
            "name": "anthropic",
        }
        for method, path, operation in operations(document):
            # Whatever else can be made and asked for by its id.
            one = next((each for each in document["paths"] if re.fullmatch(rf"{path}/{{\w+}}", each)), "")
            id_name = one.rpartition("{")[2].rstrip("}")
            if method == "post" and id_name and id_name not in ids:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                needed = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["required"]
                body = {n: v for n, v in filled(document, schema, ids).items() if n in needed}
                body |= {n: name for n in ("name", "label") if n in body} | NEEDED_TOO.get(path, {})
                new = await made(api, owner, path.removeprefix("/api/v1"), body)
                ids[id_name] = new[id_name]
    return Twin(ids)


async def made(api: Caller, who: Person, path: str, body: Mapping[str, Any]) -> Any:
    answer = await api.ask("POST", path, who, body=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def api(store, tmp_path):
    texts = [name for name, d in DIMENSIONS.items() if d.kind.value == "text" and name != "status"]
    theirs = {**dict.fromkeys(texts, SECRET), "token_source": "cli", "tags": {SECRET: SECRET}}
    await insert_calls(store, [call(call_id="ours-call-abcdef", model="m")])
    await insert_calls(store, [call(call_id=f"{SECRET}-call-abcdef", **{**theirs, "org_id": "org_b"})])
    async with query_api(store, tmp_path) as caller:
        yield caller


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in sorted(document["paths"].items()):
        for method in METHODS:
            # A stream has no end to wait for: what it shows to whom is held in test_live.py.
            endless = "text/event-stream" in str(methods.get(method))
            if method in methods and (method, path) not in LEFT_OUT and not endless:
                yield method, path, methods[method]


def filled(
    document: Mapping[str, Any], schema: Mapping[str, Any], ids: Mapping[str, str], name: str = ""
) -> Any:
    """Return a value that fits a schema, with these ids wherever one belongs, and else new names."""
    if "$ref" in schema:
        return filled(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], ids)
    if "oneOf" in schema:
        rest = {word: rule for word, rule in schema.items() if word != "oneOf"}
        return filled(document, {**rest, **schema["oneOf"][0]}, ids, name)
    if name in ids and name != "name":
        return ids[name]
    if "enum" in schema:
        return schema["enum"][-1] or schema["enum"][0]
    known: dict[str, Any] = {
        "object": {n: filled(document, s, ids, n) for n, s in schema.get("properties", {}).items()},
        "array": [filled(document, schema["items"], ids) for _ in range(schema.get("minItems", 0))],
        "boolean": False, "integer": 1, "number": 1, "time_zone": "UTC",
        "date-time": "2030-01-01T00:00:00Z", "date": "2030-01-01",
        "currency": "EUR", "email": f"new{next(NUMBERS)}@x.example", "user_email": "new@x.example",
    }  # fmt: skip
    for word in (schema.get("type"), schema.get("format"), name):
        if word in known:
            return known[word]
    invented = f"new {name} {next(NUMBERS)}"[: schema.get("maxLength", 99)]
    return invented if re.search(schema.get("pattern", ""), invented) else f"{next(NUMBERS)}"


async def answers(
    api: Caller, document: Mapping[str, Any], who: str, ids: Mapping[str, str], asked: list[str]
) -> dict[str, Any]:
    """Return what each operation answers to a caller who names these ids wherever one can be named.

    With it what the accounts database was asked for the answer.
    """
    found: dict[str, Any] = {}
    for method, path, operation in operations(document):
        place = re.sub(r"\{(\w+)(:\w+)?\}", lambda m: ids.get(m[1], "none"), path).removeprefix("/api/v1")
        queried = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"} & set(ids)
        options: dict[str, Any] = {"params": {name: ids[name] for name in queried if name != "name"}}
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            options["body"] = filled(document, content["schema"], ids)
        options["headers"] = {"if-match": "*"}
        # A session of its own for each: some of them end it.
        caller: Any = None
        if who == "key":
            caller = api.keys["org_a"]
        elif who != "nobody":
            caller = api.people.session(api.who(who))
        asked.clear()
        answer = await api.ask(method.upper(), place, caller, **options)
        work = sorted(asked)
        assert answer.status_code < 500, (method, path, answer.text)
        assert SECRET not in re.sub(re.escape(place), "", answer.text), (method, path, answer.text)
        assert SECRET not in str(answer.headers), (method, path)
        found[f"{method} {path}"] = (answer.status_code, normal(answer, ids), work)
    return found


def normal(answer: Any, ids: Mapping[str, str]) -> str:
    """Return an answer without what differs between any two: the ids that were asked for, times, secrets."""
    if answer.status_code >= 400:
        told = answer.json()
        return str(msgspec.json.encode({**told, "instance": ""}))
    return ""


@pytest.mark.parametrize("who", CALLERS)
async def test_what_another_organisation_has_answers_like_what_nobody_has(api, asked, who):
    document = (await api.client.get("/schema")).json()
    other = await twin(api, document)
    before = await inventory(api)
    theirs = await answers(api, document, who, other.ids, asked)
    nothing = await answers(api, document, who, other.nothing, asked)
    assert len(theirs) > 40
    for operation, answer in theirs.items():
        assert answer[:2] == nothing[operation][:2], operation
        if "{" in operation and "{name}" not in operation:
            assert answer[2] == nothing[operation][2], operation
            assert answer[0] in (401, 403, 404), (operation, answer)
    if who == "owner":  # who may do everything: what they name is looked for
        assert sum("{" in operation and bool(answer[2]) for operation, answer in theirs.items()) > 15
    # Nothing of theirs has changed, and they still see all of it.
    assert await inventory(api) == before


async def inventory(api: Caller) -> dict[str, Any]:
    """Return everything that the other organisation's owner sees."""
    lists = ("/keys", "/machines", "/users", "/teams", "/invitations", "/organisations/org_b", "/calls")
    return {path: await api.json(path, key=api.who("owner", "org_b").token) for path in lists}


async def test_who_is_in_two_organisations_sees_each_only_by_what_speaks_for_it(api):
    here = api.people.join("org_a", "admin", person=api.who("member", "org_b"))

    async def known() -> bool:
        return bool((await api.ask("GET", "/calls", here)).status_code == 200)

    await until(known)
    assert SECRET not in (await api.ask("GET", "/calls", here)).text
    told = (await api.ask("GET", "/auth/me", here)).json()
    assert told["organisation"]["id"] == "org_a"
