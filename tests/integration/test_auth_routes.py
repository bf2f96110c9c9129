"""The routes of people's own accounts as clients see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from infra.desks import PASSWORD
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings

ANN = {"email": "ann@example.com", "password": PASSWORD, "display_name": "Ann"}
FREE = {"rate_auth_per_minute": 100_000, "rate_write_per_minute": 100_000}


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[AsyncTestClient[Any]]:
    """The query API without its store of calls, which nothing here asks; `local_key` is an organisation's."""
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    create_organization(engine, "local", org_id="org_local")
    local_key, _ = issue_key(engine, "org_local", "a")
    settings = QuerySettings(secret_key="s" * 40, **FREE)
    async with AsyncTestClient(create_app(settings, engine=engine)) as client:
        client.local_key = local_key
        yield client
    engine.dispose()


async def post(client, path, body=None, token=""):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await client.post(f"/api/v1/auth{path}", json=body, headers=headers)


async def signed_up(client, **more) -> dict[str, Any]:
    answer = await post(client, "/signup", {**ANN, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def me(client, token):
    return await client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})


async def test_a_person_signs_up_works_changes_themselves_and_leaves(client):
    begun = await signed_up(client, organisation={"name": "Acme", "time_zone": "Europe/Berlin"})
    assert begun["token_type"] == "Bearer"
    assert begun["organisation"]["name"] == "Acme"
    found = await me(client, begun["access_token"])
    assert found.json()["user"]["email"] == "ann@example.com"
    assert found.json()["organisations"] == [{**begun["organisation"], "role": "owner"}]
    assert found.headers["cache-control"] == "private, no-store"

    token = begun["access_token"]
    headers = {"authorization": f"Bearer {token}", "if-match": found.headers["etag"]}
    change = {"handle": "ann-42", "on_leaderboard": True, "display_name": "Ann B."}
    changed = await client.patch("/api/v1/auth/me", json=change, headers=headers)
    assert changed.json()["user"]["handle"] == "ann-42", changed.text
    outdated = await client.patch("/api/v1/auth/me", json=change, headers=headers)
    assert outdated.status_code == 412

    refreshed = await post(client, "/refresh", {"refresh_token": begun["refresh_token"]})
    assert refreshed.status_code == 200
    assert (await post(client, "/logout", None, token)).status_code == 204
    assert (await me(client, token)).status_code == 401
    again = await post(client, "/refresh", {"refresh_token": refreshed.json()["refresh_token"]})
    assert again.status_code == 401
    logged_in = await post(client, "/login", {"email": ANN["email"], "password": PASSWORD})
    assert logged_in.status_code == 200


async def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(client):
    begun = await signed_up(client)
    other = (await post(client, "/login", {"email": ANN["email"], "password": PASSWORD})).json()

    async def changing(old: str):
        body = {"password": {"old": old, "new": "another password"}}
        headers = {"authorization": f"Bearer {begun['access_token']}"}
        return await client.patch("/api/v1/auth/me", json=body, headers=headers)

    refused = await changing("not the old one")
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_password")
    assert (await me(client, other["access_token"])).status_code == 200
    assert (await changing(PASSWORD)).status_code == 200
    assert (await me(client, begun["access_token"])).status_code == 200
    assert (await me(client, other["access_token"])).status_code == 401
    assert (await post(client, "/login", {"email": ANN["email"], "password": PASSWORD})).status_code == 401


async def test_the_leaderboard_needs_a_handle_that_nobody_else_has(client):
    begun = await signed_up(client)
    headers = {"authorization": f"Bearer {begun['access_token']}"}
    without = await client.patch("/api/v1/auth/me", json={"on_leaderboard": True}, headers=headers)
    assert without.status_code == 400
    bad = await client.patch("/api/v1/auth/me", json={"handle": "a b"}, headers=headers)
    assert bad.status_code == 400


async def test_a_second_stranger_does_not_sign_up_and_learns_nothing(client):
    await signed_up(client)
    known = await post(client, "/signup", ANN)
    unknown = await post(client, "/signup", {**ANN, "email": "eve@example.com"})
    assert known.status_code == unknown.status_code == 403
    assert {**known.json(), "instance": ""} == {**unknown.json(), "instance": ""}


async def test_the_key_of_the_first_start_lets_its_holder_own_the_organisation(client):
    answer = await post(client, "/signup", ANN, client.local_key)
    assert answer.status_code == 201, answer.text
    assert answer.json()["organisation"] == {"id": "org_local", "name": "local"}
    second = await post(client, "/signup", {**ANN, "email": "eve@example.com"}, client.local_key)
    assert second.status_code == 403


async def test_a_machine_is_let_in_by_the_code_it_shows(client):
    begun = await signed_up(client)
    codes = (await post(client, "/device", {"machine_id": "m-1", "machine_name": "laptop"})).json()
    assert codes["verification_uri"].endswith("/device")
    pending = await post(client, "/device/token", {"device_code": codes["device_code"]})
    assert (pending.status_code, pending.json()["code"]) == (400, "authorization_pending")
    body = {"user_code": codes["user_code"], "approve": True}
    assert (await post(client, "/device/decision", body)).status_code == 401
    decided = await post(client, "/device/decision", body, begun["access_token"])
    assert decided.json()["machine_name"] == "laptop"
    keys = (await post(client, "/device/token", {"device_code": codes["device_code"]})).json()
    assert (await me(client, keys["api_key"])).json()["user"]["email"] == "ann@example.com"
    assert (await me(client, keys["machine_key"])).status_code == 401


async def test_a_key_is_nobody_who_could_log_out_or_switch(client):
    key, org_id = client.local_key, "org_local"
    for path, body in (("/logout", None), ("/switch", {"org_id": org_id})):
        answer = await post(client, path, body, key)
        assert (answer.status_code, answer.json()["code"]) == (403, "user_needed")
    found = (await me(client, key)).json()
    assert (found["kind"], found["user"], found["organisation"]["id"]) == ("key", None, org_id)


NO_SIGN_UPS: list[Any] = [
    {},
    [],
    {"email": "ann@example.com"},
    {"email": "no address", "password": PASSWORD},
    {"email": "a@b\n.example", "password": PASSWORD},
    {"email": "a@b.example", "password": "too short"},
    {"email": "a@b.example", "password": "x" * 201},
    {"email": "a@b.example", "password": PASSWORD, "role": "owner"},
    {"email": "a@b.example", "password": PASSWORD, "display_name": "nul \0 byte"},
    {"email": "a@b.example", "password": PASSWORD, "organisation": {"name": "x", "time_zone": "no/../zone"}},
]


async def test_what_is_no_sign_up_is_refused_and_makes_nothing(client):
    for body in NO_SIGN_UPS:
        answer = await post(client, "/signup", body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert PASSWORD not in answer.text
    assert (await post(client, "/signup", ANN)).status_code == 201  # still the first


async def test_text_that_no_encoding_knows_is_refused(client):
    raw = b'{"email": "a@b.example", "password": "lone \\ud800 surrogate"}'
    headers = {"content-type": "application/json"}
    for path in ("/signup", "/login"):
        answer = await client.post(f"/api/v1/auth{path}", content=raw, headers=headers)
        assert answer.status_code == 400, answer.text


async def test_forgetting_a_password_is_one_answer_for_all(client):
    await signed_up(client)
    known = await post(client, "/password/forgot", {"email": ANN["email"]})
    unknown = await post(client, "/password/forgot", {"email": "nobody@example.com"})
    assert known.status_code == unknown.status_code == 202
    assert known.content == unknown.content
    void = await post(client, "/password/reset", {"token": "made-up", "password": "another password"})
    assert (void.status_code, void.json()["code"]) == (400, "invalid_link")
    assert (await post(client, "/verify-email", {"token": "made-up"})).json()["code"] == "invalid_link"
