"""Logging in with an identity provider, from the browser's first request to a session, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
import sqlalchemy as sa
import structlog

from infra.accounts_people import SECRET, People
from infra.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProviderStub
from infra.process import free_port
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.accounts_schema import (
    api_keys,
    audit_log,
    identities,
    memberships,
    one_time_secrets,
    organizations,
    team_members,
    teams,
    users,
)
from tokentide_common.database import open_database, reading, writing
from tokentide_common.schema import metadata
from tokentide_common.serving import serving
from tokentide_query_api.app import create_app
from tokentide_query_api.settings import QuerySettings

BASE = "/api/v1/auth/oidc"
GROUPS: dict[str, Any] = {
    "roles": {"admins": "admin", "staff": "member", "bosses": "owner"},
    "teams": {"data": "Data", "web": "Web"},
}


class Door:
    """The query API with one provider, and a browser."""

    def __init__(self, stub: OidcProviderStub, client: httpx.AsyncClient, engine: sa.Engine) -> None:
        self.stub = stub
        self.client = client
        self.engine = engine
        self.public = str(client.base_url).rstrip("/")
        self.answers: list[str] = []

    async def get(self, path: str, **options: Any) -> Any:
        answer = await self.client.get(f"{BASE}{path}", follow_redirects=False, **options)
        self.answers.append(answer.text)
        return answer

    async def start(self, **parameters: str) -> tuple[str, str]:
        """Begin a login and come back from the provider with a code and a state."""
        left = await self.get("/main/start", params=parameters)
        assert left.status_code == 302, left.text
        return self.stub.authorize(left.headers["location"])

    async def callback(self, code: str, state: str) -> Any:
        return await self.get("/main/callback", params={"code": code, "state": state})

    async def log_in(self) -> Any:
        return await self.callback(*await self.start())

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(query))

    def teams_of_person(self) -> set[str]:
        joined = sa.select(teams.c.name).join(team_members, team_members.c.team_id == teams.c.team_id)
        return {name for (name,) in self.rows(joined)}

    def roles(self) -> list[str]:
        return [role for (role,) in self.rows(sa.select(memberships.c.role))]


@contextlib.asynccontextmanager
async def door(url: str, *, public_url: str = "", **options: Any) -> AsyncIterator[Door]:
    port = free_port()
    engine = open_database(url)
    create_organization(engine, "Org A", org_id="org_a")
    stub = OidcProviderStub()
    try:
        async with stub.serving():
            provider = {
                "name": "main",
                "title": "Our login",
                "discovery_url": stub.discovery_url,
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "organisation": "org_a",
                **options,
            }
            settings = QuerySettings(
                secret_key=SECRET,
                public_url=public_url or f"http://127.0.0.1:{port}",
                oidc_providers=msgspec.json.encode([provider]).decode(),
                rate_auth_per_minute=100_000,
            )
            app = create_app(settings, engine=engine)
            async with (
                serving(app, host="127.0.0.1", port=port),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
            ):
                yield Door(stub, client, engine)
    finally:
        engine.dispose()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return migrated_sqlite(tmp_path / "accounts.db")


async def test_role_and_teams_follow_the_groups_at_each_login(database_url: str) -> None:
    async with door(database_url, **GROUPS) as at:
        at.stub.person["groups"] = ["staff", "admins", "data", "unknown"]
        first = await at.log_in()
        assert first.status_code == 200, first.text
        told = first.json()
        assert (told["role"], told["user"]["email"]) == ("admin", "ada@example.com")
        assert told["organisation"] == {"id": "org_a", "name": "Org A"}
        assert told["user"]["email_verified"]
        assert not told["user"]["has_password"]
        assert at.teams_of_person() == {"Data"}
        bearer = {"authorization": f"Bearer {told['access_token']}"}
        assert (await at.client.get("/api/v1/auth/me", headers=bearer)).json()["role"] == "admin"

        at.stub.person["groups"] = ["staff", "web"]
        second = (await at.log_in()).json()
        assert (second["role"], second["user"]["id"]) == ("member", told["user"]["id"])
        assert at.teams_of_person() == {"Web"}

        _, key = issue_key(at.engine, "org_a", "m", owner_id=told["user"]["id"])
        at.stub.person["groups"] = ["web"]
        third = await at.log_in()
        assert (third.status_code, third.json()["code"]) == (403, "oidc_no_account")
        assert (at.roles(), at.teams_of_person()) == ([], set())
        # What was open is over at once, and so are the keys.
        ended = sa.select(api_keys.c.revoked_at).where(api_keys.c.key_id == key.key_id)
        assert at.rows(ended)[0][0] is not None
        assert (await at.client.get("/api/v1/auth/me", headers=bearer)).status_code == 401
        actions = [action for (action,) in at.rows(sa.select(audit_log.c.action).order_by(audit_log.c.at))]
        assert {"user.identity_linked", "member.added", "member.changed", "member.removed"} <= set(actions)
        assert {"team.created", "team.joined", "team.left", "session.opened"} <= set(actions)


async def test_a_person_who_comes_twice_at_once_becomes_one_user(database_url: str) -> None:
    async with door(database_url, **GROUPS) as at:
        at.stub.person["groups"] = ["staff", "data"]
        async with httpx.AsyncClient(base_url=at.public, trust_env=False) as other:
            second = Door(at.stub, other, at.engine)
            came = [await at.start(), await second.start()]
            both = await asyncio.gather(at.callback(*came[0]), second.callback(*came[1]))
        assert [answer.status_code for answer in both] == [200, 200], [answer.text for answer in both]
        assert len({answer.json()["user"]["id"] for answer in both}) == 1
        assert len(at.rows(sa.select(users.c.user_id))) == len(at.rows(sa.select(teams.c.team_id))) == 1


async def test_the_last_owner_stays_whatever_the_groups_say(url: str) -> None:
    async with door(url, **GROUPS) as at:
        at.stub.person["groups"] = ["bosses"]
        assert (await at.log_in()).json()["role"] == "owner"
        at.stub.person["groups"] = []
        assert (await at.log_in()).json()["role"] == "owner"
        People(at.engine).join("org_a", "owner")
        assert (await at.log_in()).status_code == 403


async def test_whoever_is_in_no_group_gets_the_default_role_where_there_is_one(url: str) -> None:
    async with door(url, default_role="viewer") as at:
        assert (await at.log_in()).json()["role"] == "viewer"


async def test_a_stranger_without_verified_address_or_group_leaves_no_trace(url: str) -> None:
    strangers: list[tuple[dict[str, Any], str]] = [
        ({"email_verified": False}, "oidc_email_not_verified"),
        ({"email_verified": None}, "oidc_email_not_verified"),
        ({"email": None}, "oidc_email_not_verified"),
        ({"email": "@example.com"}, "oidc_email_not_verified"),
        ({"email": "ada@elsewhere.example"}, "oidc_email_not_verified"),
        ({"groups": []}, "oidc_no_account"),
    ]
    async with door(url, **GROUPS, domains=["EXAMPLE.com"]) as at:
        usual = {**at.stub.person, "groups": ["staff"]}
        for claims, code in strangers:
            at.stub.person = usual | claims
            answer = await at.log_in()
            assert (answer.status_code, answer.json()["code"]) == (403, code), claims
        assert at.rows(sa.select(users.c.user_id)) + at.rows(sa.select(identities.c.subject)) == []


async def test_who_was_known_and_is_no_member_any_more_is_judged_as_a_stranger(url: str) -> None:
    async with door(url, **GROUPS, domains=["example.com"]) as at:
        usual = {**at.stub.person, "groups": ["staff"]}
        at.stub.person = usual
        assert (await at.log_in()).status_code == 200
        with writing(at.engine) as connection:
            connection.execute(sa.delete(memberships))
        for claims in ({"email_verified": False}, {"email": "ada@elsewhere.example"}):
            at.stub.person = usual | claims
            answer = await at.log_in()
            assert (answer.status_code, answer.json()["code"]) == (403, "oidc_email_not_verified"), claims
        assert at.roles() == []


async def test_no_login_opens_an_organisation_that_was_closed(url: str) -> None:
    async with door(url, default_role="member") as at:
        with writing(at.engine) as connection:
            connection.execute(sa.update(organizations).values(closed_at=sa.func.current_timestamp()))
        # The directory in memory does not know it yet.
        answer = await at.log_in()
        assert (answer.status_code, answer.json()["code"]) == (503, "oidc_unavailable")
        assert at.roles() == at.rows(sa.select(users.c.user_id)) == []


async def test_somebody_known_by_e_mail_is_linked_only_where_the_setting_allows(url: str) -> None:
    async with door(url, **GROUPS) as at:
        at.stub.person |= {"email": known_here(at).email, "groups": ["staff"]}
        answer = await at.log_in()
        assert (answer.status_code, answer.json()["code"]) == (403, "oidc_no_account")


async def test_once_linked_it_is_issuer_and_subject_that_count_not_the_address(url: str) -> None:
    async with door(url, link_by_email=True) as at:
        known = known_here(at)
        at.stub.person |= {"email": known.email.upper()}
        told = (await at.log_in()).json()
        assert (told["user"]["id"], told["role"]) == (known.user_id, "admin")
        at.stub.person |= {"email": "renamed@example.com", "email_verified": False}
        assert (await at.log_in()).json()["user"]["id"] == known.user_id


async def test_nobody_is_linked_whose_address_is_unproven_or_who_belongs_elsewhere_too(url: str) -> None:
    async with door(url, link_by_email=True) as at:
        create_organization(at.engine, "Org B", org_id="org_b")
        unproven = People(at.engine).join("org_a", "member")
        at.stub.person |= {"email": unproven.email}
        assert (await at.log_in()).json()["code"] == "oidc_no_account"
        both = known_here(at)
        People(at.engine).join("org_b", "owner", person=both)
        at.stub.person |= {"email": both.email}
        assert (await at.log_in()).json()["code"] == "oidc_no_account"
        assert at.rows(sa.select(identities.c.subject)) == []


async def test_a_login_is_good_once_and_in_the_browser_that_began_it(url: str) -> None:
    async with door(url, default_role="member") as at:
        code, state = await at.start()
        cookie = at.client.cookies.get("tokentide_oidc")
        assert (await at.callback(code, state)).status_code == 200
        at.client.cookies.set("tokentide_oidc", str(cookie), path=BASE)
        replayed = await at.callback(at.stub.authorize_again(state), state)
        assert (replayed.status_code, replayed.json()["code"]) == (401, "oidc_refused")

        code, state = await at.start()
        at.client.cookies.clear()
        assert (await at.callback(code, state)).status_code == 401
        code, state = await at.start()
        at.client.cookies.clear()
        at.client.cookies.set("tokentide_oidc", "of-another-browser", path=BASE)
        assert (await at.callback(code, state)).status_code == 401
        code, _ = await at.start()
        assert (await at.callback(code, "invented")).status_code == 401
        _, state = await at.start()
        denied = await at.get("/main/callback", params={"error": "access_denied", "state": state})
        assert denied.status_code == 401


async def test_the_cookie_of_a_login_is_for_its_own_routes_and_no_script(url: str) -> None:
    async with door(url, public_url="https://tokentide.example/base/") as at:
        left = await at.get("/main/start")
        cookie = left.headers["set-cookie"].lower()
        for part in ("httponly", "secure", "samesite=lax", f"path=/base{BASE}", "max-age=600"):
            assert part in cookie
        asked = parse_qs(urlsplit(left.headers["location"]).query)
        assert asked["redirect_uri"] == [f"https://tokentide.example/base{BASE}/main/callback"]
        assert left.headers["cache-control"] == "private, no-store"


async def test_a_page_of_ours_gets_a_ticket_that_is_good_once(url: str) -> None:
    async with door(url, default_role="member") as at:
        back = await at.callback(*await at.start(return_to="/dashboard?tab=usage"))
        assert back.status_code == 303
        page, _, ticket = back.headers["location"].partition("#ticket=")
        assert page == f"{at.public}/dashboard?tab=usage"
        redeemed = await at.client.post(f"{BASE}/token", json={"ticket": ticket})
        assert redeemed.json()["role"] == "member"
        again = await at.client.post(f"{BASE}/token", json={"ticket": ticket})
        assert (again.status_code, again.json()["code"]) == (401, "oidc_refused")


async def test_a_ticket_is_good_in_no_other_browser(url: str) -> None:
    async with door(url, default_role="member") as at:
        back = await at.callback(*await at.start(return_to="/dashboard"))
        ticket = back.headers["location"].partition("#ticket=")[2]
        for cookies in ({}, {"tokentide_oidc": "of-another-browser"}):
            async with httpx.AsyncClient(base_url=at.public, trust_env=False, cookies=cookies) as other:
                answer = await other.post(f"{BASE}/token", json={"ticket": ticket})
            assert (answer.status_code, answer.json()["code"]) == (401, "oidc_refused")


async def test_a_login_leads_to_no_page_but_ours(url: str) -> None:
    pages = [
        "https://elsewhere.example/",
        "//elsewhere.example/",
        "/\\elsewhere.example",
        "http://127.0.0.1:80.elsewhere.example/",
        "http://127.0.0.1:80@elsewhere.example/",
        "javascript:alert(1)",
        "/a#fragment",
        "/a\r\nset-cookie: x=y",
        "http://127.0.0.1:1/",
        "https://[",
    ]
    async with door(url) as at:
        for page in pages:
            answer = await at.get("/main/start", params={"return_to": page})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter"), page


async def test_providers_are_listed_without_their_secrets(url: str) -> None:
    async with door(url) as at:
        assert (await at.get("")).json()["items"] == [
            {"name": "main", "title": "Our login", "start": f"{BASE}/main/start"}
        ]
        assert CLIENT_SECRET not in (await at.get("")).text
        for path in ("/other/start", "/other/callback"):
            assert (await at.get(path)).status_code == 404


async def test_a_provider_that_is_away_is_said_to_be(url: str) -> None:
    async with door(url) as at:
        at.stub.document = {"issuer": "https://elsewhere.example"}
        answer = await at.get("/main/start")
        assert (answer.status_code, answer.json()["code"]) == (503, "oidc_unavailable")
        assert answer.headers["retry-after"]


async def test_no_secret_of_a_login_is_in_a_log_an_answer_or_the_database(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with door(url, default_role="member") as at:
        with structlog.testing.capture_logs() as logged:
            told = (await at.log_in()).json()
            at.answers.pop()
            code, state = await at.start()
            at.stub.forged = "a.b.c"
            assert (await at.callback(code, state)).status_code == 401
            code, state = await at.start()
            at.stub.reject_codes = True
            assert (await at.callback(code, state)).status_code == 401
            await at.start()
            begun = at.rows(sa.select(one_time_secrets.c.content))
        kept = "".join(
            repr(tuple(row))
            for table in metadata.sorted_tables
            for row in at.rows(sa.select(*[sa.cast(column, sa.LargeBinary) for column in table.columns]))
        )
        # "httpx" is the browser of this test; the API asks providers with httpx2.
        lines = [record.getMessage() for record in caplog.records if record.name != "httpx"]
        said = "".join([*lines, *capfd.readouterr(), repr(logged), *at.answers, kept])
        hidden = [CLIENT_SECRET, told["access_token"], told["refresh_token"], *at.stub.secrets_seen]
        assert len(begun) == 1
        assert [secret for secret in hidden if len(secret) > 8 and secret in said] == []


def known_here(at: Door) -> Any:
    """Return a member of the organisation who has proven their address."""
    known = People(at.engine).join("org_a", "admin")
    with writing(at.engine) as connection:
        proven = {"email_verified_at": sa.func.current_timestamp()}
        connection.execute(sa.update(users).where(users.c.user_id == known.user_id).values(proven))
    return known
