"""The query API as its callers see it, inside the test's event loop, with keys of two organisations."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from litestar.testing import AsyncTestClient

from infra.accounts_people import SECRET, People, Person
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.accounts_schema import ROLES, organizations
from tokentide_common.database import open_database, writing
from tokentide_common.store import Store
from tokentide_query_api.app import create_app
from tokentide_query_api.rate_limits import KINDS
from tokentide_query_api.settings import QuerySettings

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
ORGANIZATIONS = ("org_a", "org_b")


class Caller:
    """Asks the query API with the API key of an organisation, or with the token of a person.

    `who(role, org)` is a person of each role in each organisation; `people` makes more.
    """

    def __init__(
        self, client: AsyncTestClient[Any], keys: dict[str, str], other_keys: dict[str, str], people: People
    ) -> None:
        self.client = client
        self.keys = keys
        self.other_keys = other_keys
        self.people = people
        self.who = people.cast(*ORGANIZATIONS)

    async def get(self, path: str, org: str = "org_a", *, key: str | None = None, **options: Any) -> Any:
        """Return the response to a GET; `path` is under /api/v1 and may have a query."""
        headers = {"authorization": f"Bearer {key or self.keys[org]}", **options.pop("headers", {})}
        return await self.client.get(f"/api/v1{path}", headers=headers, **options)

    async def json(self, path: str, org: str = "org_a", **options: Any) -> Any:
        """Return the JSON answer, which must be a success."""
        response = await self.get(path, org, **options)
        assert response.status_code == 200, response.text
        return response.json()

    async def ask(
        self, method: str, path: str, who: Person | str | None = None, *, body: Any = None, **options: Any
    ) -> Any:
        """Return the response to any request as a person, a role of org_a, or the holder of a key."""
        person = self.who(who) if who in ROLES else who
        credential = person.token if isinstance(person, Person) else person
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        headers |= options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **options)


@contextlib.asynccontextmanager
async def query_api(
    store: Store,
    folder: Path,
    *,
    time_zone: str = "UTC",
    now: datetime = NOW,
    privacy: str = "open",
    **settings: Any,
) -> AsyncIterator[Caller]:
    """Serve a store to two organisations; `other_keys` are a machine's and a proxy's of the first.

    `settings` are of `QuerySettings`.
    """
    engine = open_database(migrated_sqlite(folder / "accounts.db"))
    for org in ORGANIZATIONS:
        create_organization(engine, org, time_zone=time_zone, org_id=org)
    keys = {org: issue_key(engine, org, "a")[0] for org in ORGANIZATIONS}
    other = {"m": issue_key(engine, "org_a", "m")[0], "p": issue_key(engine, "org_a", "p")[0]}
    with writing(engine) as connection:
        connection.execute(sa.update(organizations).values(privacy=privacy))
    people = People(engine, now=now)
    unhurried = {f"rate_{kind}_per_minute": 1_000_000 for kind in KINDS}
    chosen = QuerySettings(**{"secret_key": SECRET, **unhurried, **settings})
    app = create_app(chosen, store=store, engine=engine, clock=lambda: now)
    caller = Caller(AsyncTestClient(app), keys, other, people)
    try:
        async with caller.client:
            yield caller
    finally:
        engine.dispose()
