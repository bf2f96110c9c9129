"""The account routes' desk on any database, without HTTP: as one replica of the query API has it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from infra.accounts_people import SECRET, People, Person
from tokentide_common.accounts import KeyDirectory, create_organization
from tokentide_common.database import open_database
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.desk import Desk, open_desk
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.settings import QuerySettings

ORG, OTHER = "org_a", "org_b"


class Office:
    """A desk and the people of two organisations."""

    def __init__(self, desk: Desk, people: People) -> None:
        self.desk = desk
        self.people = people
        self.who = people.cast(ORG, OTHER)

    def by(self, person: Person | str, org: str = ORG) -> Maker:
        """Return a person, or whoever has a role, as who makes a change."""
        someone = self.who(person, org) if isinstance(person, str) else person
        principal = Principal(
            org_id=someone.org_id,
            role=someone.role,
            kind="user",
            actor_id=someone.user_id,
            user_id=someone.user_id,
            email=someone.email,
            session_id=someone.session_id,
        )
        return Maker(principal, Actor.of(principal, "192.0.2.7", "request-1"))


@contextlib.asynccontextmanager
async def office(database_url: str) -> AsyncIterator[Office]:
    """Open a desk on a database that nobody has used yet."""
    engine = open_database(database_url)
    for org in (ORG, OTHER):
        create_organization(engine, org, org_id=org)
    try:
        async with replica(database_url) as desk:
            opened = Office(desk, People(engine))
            await desk.people.refresh()
            yield opened
    finally:
        engine.dispose()


@contextlib.asynccontextmanager
async def replica(database_url: str) -> AsyncIterator[Desk]:
    """Open a desk of its own, as another process would."""
    engine = open_database(database_url)
    keys = KeyDirectory(engine)
    await keys.refresh()
    try:
        settings = QuerySettings(secret_key=SECRET, database_url=database_url)
        async with open_desk(settings, engine, keys, lambda: datetime.now(UTC)) as desk:
            yield desk
    finally:
        engine.dispose()
