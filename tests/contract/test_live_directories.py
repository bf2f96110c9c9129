"""Keys and people in memory outlive their database for a while, and then let nobody in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from infra.accounts_people import People, Person
from infra.waiting import until
from tokentide_common.accounts import create_organization, issue_key, next_revision, revoke_key
from tokentide_common.accounts_schema import api_keys
from tokentide_common.database import Engine, open_database, selected, writing
from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.key_directory import LiveKeys
from tokentide_query_api.accounts.people import LivePeople

STALE_AFTER_S = 300.0


class Link:
    """A connection to the accounts database that can be cut, or slowed down until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cut = False
        self.moving = threading.Event()
        self.moving.set()
        self.waiting = threading.Event()

    def select(self, sql: str) -> Sequence[Sequence[Any]]:
        if not self.moving.is_set():
            self.waiting.set()
            self.moving.wait(20)
        if self.cut:
            raise Unavailable("the accounts database is away", code="database_unavailable")
        return selected(self._engine, sql)


class World:
    """Both directories over one database, and somebody to ask for."""

    def __init__(self, engine: Engine, link: Link) -> None:
        self.engine = engine
        self.link = link
        self.now = 1000.0
        self.org_id = create_organization(engine, "A")
        self.secret, self.record = issue_key(engine, self.org_id, "a")
        self.person: Person = People(engine).join(self.org_id, "member")
        clock = lambda: self.now  # noqa: E731 -- read by both, set by the tests
        self.keys = LiveKeys(link.select, stale_after_s=STALE_AFTER_S, clock=clock)
        self.people = LivePeople(link.select, stale_after_s=STALE_AFTER_S, clock=clock)

    async def refresh(self) -> None:
        await self.keys.refresh()
        await self.people.refresh()

    def ask(self) -> None:
        """Be let in, by key and by membership; raises what each raises."""
        self.keys.resolve(self.secret, "a")
        assert self.people.member(self.org_id, self.person.user_id) is not None

    def refusals(self) -> set[str]:
        """Return the codes of what both refuse; fails where one still answers."""
        questions: list[Callable[[], object]] = [
            lambda: self.keys.resolve(self.secret, "a"),
            lambda: self.people.member(self.org_id, self.person.user_id),
            lambda: self.people.organization(self.org_id),
            lambda: self.people.has_ended(self.person.session_id),
            self.people.on_leaderboard,
        ]
        found = set()
        for question in questions:
            with pytest.raises(Unavailable) as caught:
                question()
            found.add(caught.value.stable_code)
        return found


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    engine = open_database(database_url)
    yield World(engine, Link(engine))
    engine.dispose()


async def test_with_the_database_down_what_is_known_holds_for_a_while_and_then_nobody_is_let_in(
    world: World,
) -> None:
    await world.refresh()
    world.link.cut = True
    for directory in (world.keys, world.people):
        with pytest.raises(Unavailable):
            await directory.refresh()
    world.now += STALE_AFTER_S
    world.ask()
    world.now += 1
    assert world.refusals() == {"keys_unavailable"}
    world.link.cut = False
    await world.refresh()
    world.ask()


async def test_a_slow_database_holds_nobody_up_and_its_answer_is_as_old_as_the_question(
    world: World,
) -> None:
    await world.refresh()
    world.link.moving.clear()
    refreshing = asyncio.create_task(world.keys.refresh())
    await until(world.link.waiting.is_set)
    world.ask()
    world.now += STALE_AFTER_S + 1
    assert world.refusals() == {"keys_unavailable"}
    world.link.moving.set()
    await refreshing
    # It was asked before all that time passed: whoever was revoked since may still be in it.
    with pytest.raises(Unavailable):
        world.keys.resolve(world.secret, "a")
    await world.refresh()
    world.ask()


async def test_tables_that_are_locked_and_changed_meanwhile_cost_nobody_an_answer(world: World) -> None:
    await world.refresh()
    held, let_go = threading.Event(), threading.Event()

    def migrate() -> None:
        with writing(world.engine) as connection:  # as a newer version of a service does at its start
            for table in ("api_keys", "memberships"):
                column = "of_tomorrow VARCHAR(9) DEFAULT ''"
                connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column}"))
            held.set()
            let_go.wait(20)

    migrating = asyncio.create_task(asyncio.to_thread(migrate))
    await until(held.is_set)
    refreshing = asyncio.create_task(world.refresh())
    world.ask()
    let_go.set()
    await migrating
    await refreshing
    world.ask()
    revoke_key(world.engine, world.org_id, world.record.key_id)
    await world.refresh()
    with pytest.raises(Unauthorized):
        world.keys.resolve(world.secret, "a")


async def test_whose_keys_are_whose_follows_every_change(world: World) -> None:
    people = People(world.engine)
    ann, bob = (people.join(world.org_id, "member", name=name).user_id for name in ("ann", "bob"))
    issued = [issue_key(world.engine, world.org_id, "m", owner_id=owner)[1] for owner in (ann, ann, bob)]
    first, second, bobs = (record.key_id for record in issued)
    await world.refresh()
    assert (world.keys.of_owner(ann), world.keys.of_owner(bob)) == ({first, second}, {bobs})
    with writing(world.engine) as connection:  # a key changes hands
        change = sa.update(api_keys).where(api_keys.c.key_id == second)
        connection.execute(change.values(owner_id=bob, revision=next_revision(connection, "keys")))
    revoke_key(world.engine, world.org_id, first)
    await world.refresh()
    assert (world.keys.of_owner(ann), world.keys.of_owner(bob)) == (set(), {second, bobs})
    assert world.keys.of_owner("") == set()


async def test_two_replicas_that_issue_and_revoke_at_once_both_end_up_right(world: World) -> None:
    """Each has its own memory; what one changes the other sees, whatever came between."""
    other = LiveKeys(partial(selected, world.engine))
    await world.refresh()
    await other.refresh()

    def change(of: list[tuple[str, bool]]) -> None:
        for n in range(15):
            secret, record = issue_key(world.engine, world.org_id, "a")
            if n % 2:
                revoke_key(world.engine, world.org_id, record.key_id)
            of.append((secret, not n % 2))

    made: list[tuple[str, bool]] = []
    changing = [asyncio.create_task(asyncio.to_thread(change, made)) for _ in range(2)]
    while not all(task.done() for task in changing):
        await asyncio.gather(world.keys.refresh(), other.refresh())
    await asyncio.gather(*changing)
    await asyncio.gather(world.keys.refresh(), other.refresh())
    assert len(made) == 30
    for directory in (world.keys, other):
        for secret, live in made:
            assert _knows(directory, secret) is live


def _knows(keys: LiveKeys, secret: str) -> bool:
    try:
        keys.resolve(secret, "a")
    except Unauthorized:
        return False
    return True
