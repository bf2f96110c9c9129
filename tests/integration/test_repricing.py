"""Pricing history anew: told before it is done, done by the aggregator, exact, audited and repeatable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from infra.account_desks import office
from infra.counting import Counter, rollup_sums
from infra.observations import NOON
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts_schema import audit_log
from tokentide_common.broker import Record
from tokentide_common.database import reading
from tokentide_common.errors import Forbidden
from tokentide_common.events import UsageEvent, decode_wire_event
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import price_of
from tokentide_common.pricing.overrides import parse_rules
from tokentide_query_api.money import repricing
from tokentide_query_api.money.repricing import Repricer, repriced
from tokentide_query_api.money.repricing_words import Repricing, Wanted

HOUSE = b"""
[[rule]]
name = "house"
source = "price sheet 7"
models = ["house-*"]
rates = [{ input = 2, output = 10 }]
"""


def call(number: int, model: str = "house-1", **fields: Any) -> UsageEvent:
    fields = {"org_id": "org_a", "input_tokens": 1000, "output_tokens": number, **fields}
    at = NOON - timedelta(days=number % 40, milliseconds=number)
    return UsageEvent(call_id=f"req_{number:04d}", source="cli", model=model, occurred_at=at, **fields)


class World:
    """A ledger that was priced by other prices, and those of today."""

    def __init__(self, at: Any, store: Any, counter: Counter) -> None:
        self._at = at
        self.counter = counter
        self.store = store
        self.asked = 0
        self.prices = Prices(parse_rules(HOUSE, "test"), version="house")
        self._repricer = Repricer(at.desk, store, lambda *_: 0, self.prices, self)  # type: ignore[arg-type] -- takes what it publishes

    async def publish(self, _topic: str, records: Sequence[Record]) -> None:
        """Be the broker: what is published is on the log of the one partition."""
        self.asked += len(records)
        for record in records:
            self.counter.append([decode_wire_event(record.value or b"")], headers=tuple(record.headers))

    async def page(self, role: str = "admin", **wanted: Any) -> Repricing:
        return await repriced(self._repricer, self._at.by(role), msgspec.convert(wanted, Wanted))

    async def every_page(self, **wanted: Any) -> list[Repricing]:
        pages = [await self.page(**wanted)]
        while pages[-1].next_cursor is not None:
            pages.append(await self.page(cursor=pages[-1].next_cursor, **wanted))
        return pages

    def audited(self) -> list[dict[str, Any]]:
        query = sa.select(audit_log.c.detail).where(audit_log.c.action == "calls.repriced")
        with reading(self._at.people.engine) as connection:
            return [msgspec.json.decode(detail) for detail in connection.execute(query).scalars()]


@pytest.fixture
async def world(store, tmp_path, monkeypatch):
    monkeypatch.setattr(repricing, "PAGE", 10)
    async with office(migrated_sqlite(tmp_path / "accounts.db")) as at:
        counter = Counter(store, tmp_path, "t")
        counter.restart(price=lambda e: 5 if e.model == "house-2" else None)
        counter.append([call(n) for n in range(24)])
        counter.append([call(24, "house-2"), call(25, "nobody-knows-it"), call(26, org_id="org_b")])
        await counter.count_all(100)
        yield World(at, store, counter)
        counter.close()


async def test_a_dry_run_tells_what_each_model_would_cost_and_changes_nothing(world):
    before = await rollup_sums(world.store, "org_a")
    pages = await world.every_page(dry_run=True)
    told: dict[str, list[Any]] = {}
    for model in (model for page in pages for model in page.models):
        said = told.setdefault(model.model, [0, 0, 0, 0, 0.0])
        counts = (model.calls, model.changed, model.unpriced_before, model.unpriced_after)
        told[model.model] = [a + b for a, b in zip(said, (*counts, float(model.new_cost_usd)), strict=True)]
    # 24 calls of 1000 input tokens at 2 USD a million, and 0 + 1 + … + 23 output tokens at 10
    assert told["house-1"] == [24, 24, 24, 0, pytest.approx(24 * 0.002 + 276 * 0.00001)]
    assert told["house-2"] == [1, 1, 0, 0, pytest.approx(0.00224)]
    assert told["nobody-knows-it"] == [1, 0, 1, 1, 0]
    assert [page.calls for page in pages][:-1] == [9] * (len(pages) - 1), "a page is bounded"
    (house_2,) = [model for page in pages for model in page.models if model.model == "house-2"]
    assert (house_2.old_cost_usd, house_2.difference_usd) == ("0.000000005", "0.002239995")
    assert (world.asked, world.audited()) == (0, [])
    assert await rollup_sums(world.store, "org_a") == before


async def test_it_is_exact_whenever_it_is_broken_off_and_leaves_nothing_for_a_second_time(world):
    world.counter.restart(price=price_of(world.prices))
    await world.page()
    assert world.asked == 9
    await world.counter.count_all(100)
    pages = await world.every_page()
    assert (world.asked, sum(page.changed for page in pages)) == (25, 16), "what is done is not done again"
    await world.page()  # again before the aggregator has come to it: the request twice, the effect once
    await world.counter.count_all(7)
    said = await rollup_sums(world.store, "org_a")
    assert said == dict.fromkeys(said, said["ledger"])
    assert (said["ledger"]["calls"], said["ledger"]["unpriced_calls"]) == (26, 1)
    assert said["ledger"]["cost_nano"] == 25 * 2_000_000 + sum(range(25)) * 10_000
    assert sum(page.changed for page in await world.every_page(dry_run=True)) == 0
    assert (await rollup_sums(world.store, "org_b"))["ledger"]["unpriced_calls"] == 1
    audited = world.audited()
    assert sum(each["changed"] for each in audited) == world.asked
    assert {each["price_version"] for each in audited} == {world.prices.version}


async def test_a_model_and_a_period_narrow_it_and_only_admins_may(world):
    assert [page.changed for page in await world.every_page(dry_run=True, model="house-2")] == [1]
    day = call(24).occurred_at.date().isoformat()
    narrowed = await world.every_page(dry_run=True, **{"from": day})
    assert {model.model for page in narrowed for model in page.models} == {"house-2"}
    with pytest.raises(Forbidden):
        await world.page("member", dry_run=True)
