"""Which budgets stop calls: what is noted as long as it holds, also with the database away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization
from tokentide_common.accounts_schema import budget_stops, budgets
from tokentide_common.database import Engine, open_database, selected, writing
from tokentide_common.errors import Unavailable
from tokentide_common.stop_directory import LiveStops

UNTIL_S = 2_000_000_000
TEAM = ("team", "core")


class World:
    """A database that can be away, and what is known of its stops."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.org_id = create_organization(engine, "o")
        self.away = False
        self.now = UNTIL_S - 60.0
        self.stops = LiveStops(self._select, wall_clock=lambda: self.now)

    def put(self, name: str, *, used: int = 100, until_s: int = UNTIL_S, **fields: Any) -> None:
        row = {"scope": "team", "scope_value": "core", "hard_stop": True, "amount": 100, **fields}
        row |= {"budget_id": name, "org_id": self.org_id, "name": name, "period": "monthly", "unit": "tokens"}
        row |= {"thresholds": "[]", "channels": b"", "created_at": datetime(2026, 11, 1, tzinfo=UTC)}
        with writing(self.engine) as connection:
            connection.execute(sa.insert(budgets).values(row))
            stop = {"budget_id": name, "until_s": until_s, "used": used}
            connection.execute(sa.insert(budget_stops).values(stop))

    def change(self, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(sa.update(budgets).values(**values))

    async def stopped(self, *parts: tuple[str, str], org_id: str = "") -> str:
        if not self.away:
            await self.stops.refresh()
        stop = self.stops.stop_of(org_id or self.org_id, parts or (TEAM,))
        return "" if stop is None else stop.name

    def _select(self, sql: str) -> Sequence[Sequence[Any]]:
        if self.away:
            raise Unavailable("away")
        return selected(self.engine, sql)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    yield World(engine)
    engine.dispose()


async def test_only_what_a_used_up_budget_is_about_is_stopped(world: World) -> None:
    assert await world.stopped() == ""
    assert not world.stops.stops_any_of(world.org_id)
    world.put("core")
    assert await world.stopped(("project", "p"), TEAM) == "core"
    assert await world.stopped(("team", "other"), ("project", "core")) == ""
    assert await world.stopped(org_id="org_b") == ""
    world.put("longer", until_s=UNTIL_S + 9)
    assert await world.stopped() == "longer"


async def test_a_stop_ends_with_its_period_though_nobody_takes_it_away(world: World) -> None:
    world.put("core")
    assert await world.stopped() == "core"
    world.now = UNTIL_S
    assert await world.stopped() == ""


async def test_whoever_raises_the_amount_or_drops_the_hard_stop_ends_it_with_that(world: World) -> None:
    for ended in ({"amount": 101}, {"hard_stop": False}):
        world.change(amount=100, hard_stop=True)
        if not await world.stopped():
            world.put("core")
        assert await world.stopped() == "core"
        world.change(**ended)
        assert await world.stopped() == "", ended


async def test_with_the_database_away_known_stops_hold_and_no_others_begin(world: World) -> None:
    world.put("core")
    assert await world.stopped() == "core"
    world.away = True
    with pytest.raises(Unavailable):
        await world.stops.refresh()
    assert await world.stopped() == "core"
    assert await world.stopped(("organisation", "")) == ""
    begun = LiveStops(partial(world._select))
    await begun.start()
    assert not begun.stops_any_of(world.org_id), "whoever starts meanwhile lets everything pass"
    await begun.stop()
