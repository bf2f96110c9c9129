"""Pricing history anew: what calls would cost by the prices of today, and the request that they do.

Nothing is written here but requests: the aggregator, which alone writes the ledger, takes back the row of a
call and puts in one with the price that it knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tokentide_common.broker import Publisher
from tokentide_common.database import writing_async
from tokentide_common.events import UsageEvent
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import Price, price_of
from tokentide_common.repricing import reprice_record
from tokentide_common.store import Store, rows
from tokentide_common.topics import USAGE
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.cursors import Cursor, decoded, encoded, question_digest
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.measures import usd
from tokentide_query_api.money.repricing_words import RepricedModel, Repricing, Wanted
from tokentide_query_api.periods import resolve, zone_named
from tokentide_query_api.record import live_rows
from tokentide_query_api.scope import Filter, Scope
from tokentide_query_api.statement import Statement
from tokentide_query_api.store_wall import WalledStore, WholeFromMs
from tokentide_query_api.visibility import whole_organization

PAGE: Final = 10_000
"""Rows of the ledger that are looked at in one request."""
_AT_ONCE: Final = 500
"""Calls that are priced before others get their turn."""
_SHOWN: Final = (
    *("call_id", "occurred_at", "provider", "model", "service_tier", "speed", "inference_geo"),
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "web_search_requests"),
    *("cost_nano", "unpriced", "version", "sign"),
)


class Repricer(msgspec.Struct, frozen=True):
    """What pricing anew needs: who may, the calls, the prices, and where requests go."""

    desk: Desk
    store: Store
    whole_from_ms: WholeFromMs
    prices: Prices
    publisher: Publisher


class StoredCall(UsageEvent, kw_only=True, gc=False):
    """A counted call with the cost that it has."""

    cost_nano: int
    unpriced: bool


class Judged:
    """What became of calls of one provider's model."""

    __slots__ = ("calls", "changed", "new_nano", "old_nano", "unpriced_after", "unpriced_before")

    def __init__(self) -> None:
        self.calls = self.changed = self.old_nano = self.new_nano = 0
        self.unpriced_before = self.unpriced_after = 0


async def repriced(at: Repricer, by: Maker, wanted: Wanted) -> Repricing:
    """Judge a page of calls, newest first, and unless it is a dry run ask that what changed be priced anew.

    Whoever repeats it finds unchanged what was priced by then: it can be broken off and resumed anywhere.
    """
    by.principal.require("admin")
    question = question_digest(by.org_id, "repricing", [wanted.model])
    if wanted.cursor is None:
        period = resolve(wanted.from_ or "all", wanted.to, zone_named(wanted.tz), at.desk.clock())
        place = Cursor(period.start_ms, period.end_ms, period.end_ms, "", question)
    else:
        place = decoded(wanted.cursor, question)
    found, last = await _page(at, by.org_id, place, wanted.model)
    by_model, stale = await judged(found, price_of(at.prices))
    if stale and not wanted.dry_run:
        await _ask(at, by, by_model, stale)
    return Repricing(
        price_version=at.prices.version,
        dry_run=wanted.dry_run,
        calls=len(found),
        changed=len(stale),
        models=[_told(key, by_model[key]) for key in sorted(by_model)],
        next_cursor=None if last is None else encoded(last),
    )


async def judged(
    calls: Sequence[StoredCall], price: Price
) -> tuple[dict[tuple[str, str], Judged], list[StoredCall]]:
    """Price calls; return sums by provider and model, and the calls that now cost something else."""
    by_model: dict[tuple[str, str], Judged] = {}
    stale = []
    for number, call in enumerate(calls):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        cost = price(call)
        said = by_model.setdefault((call.provider, call.model), Judged())
        said.calls += 1
        said.old_nano += call.cost_nano
        said.new_nano += cost or 0
        said.unpriced_before += call.unpriced
        said.unpriced_after += cost is None
        if (cost or 0, cost is None) != (call.cost_nano, call.unpriced):
            said.changed += 1
            stale.append(call)
    return by_model, stale


async def _ask(
    at: Repricer, by: Maker, by_model: Mapping[tuple[str, str], Judged], stale: Sequence[StoredCall]
) -> None:
    async with writing_async(at.desk.engine) as connection:
        # Before it happens: nothing is priced anew that the audit log does not tell of.
        await audit.record(
            connection,
            by.org_id,
            by.actor,
            "calls.repriced",
            ("organisation", by.org_id),
            price_version=at.prices.version,
            changed=len(stale),
            first=stale[-1].occurred_at.isoformat(),
            last=stale[0].occurred_at.isoformat(),
            models=sorted({call.model for call in stale}),
            difference_usd=usd(sum(said.new_nano - said.old_nano for said in by_model.values())),
        )
    asked = [reprice_record(by.org_id, call.call_id, call.occurred_at) for call in stale]
    await at.publisher.publish(USAGE, asked)


async def _page(
    at: Repricer, org_id: str, place: Cursor, model: str | None
) -> tuple[list[StoredCall], Cursor | None]:
    """Return the calls before a place, newest first, and where the next page begins."""
    size = PAGE
    while True:
        raw = await _window(at, org_id, place, model, size)
        if len(raw) < size:
            return _calls(raw), None
        whole = _without_last_call(raw)
        if whole:
            end = whole[-1]
            return _calls(whole), msgspec.structs.replace(place, at=end["at_ms"], id=end["call_id"])
        size *= 2  # a call of many states filled the window


async def _window(
    at: Repricer, org_id: str, place: Cursor, model: str | None, size: int
) -> list[dict[str, Any]]:
    filters = () if model is None else (Filter(DIMENSIONS["model"], (model,)),)
    statement = Statement(Scope(whole_organization(org_id), place.start_ms, place.at + 1, filters))
    time = f"fromUnixTimestamp64Milli({statement.bind(place.at, 'Int64')}, 'UTC')"
    where = f"(x.occurred_at < {time} OR x.call_id < {statement.bind(place.id, 'String')})"
    names = [f"x.{name} AS {name}" for name in _SHOWN]
    select = ", ".join([*names, "'api' AS source", "toUnixTimestamp64Milli(x.occurred_at) AS at_ms"])
    sql = f"{statement.ledger(select, where=where)} ORDER BY x.occurred_at DESC, x.call_id DESC LIMIT {size}"
    return await rows(WalledStore(at.store, [org_id], at.whole_from_ms), sql, statement.params)


def _calls(raw: Iterable[Mapping[str, Any]]) -> list[StoredCall]:
    return [msgspec.convert(row, StoredCall) for row in live_rows(raw)]


def _without_last_call(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop the rows of the last call: the window may have cut through its states."""
    last = (raw[-1]["at_ms"], raw[-1]["call_id"])
    return [row for row in raw if (row["at_ms"], row["call_id"]) != last]


def _told(key: tuple[str, str], said: Judged) -> RepricedModel:
    return RepricedModel(
        provider=key[0],
        model=key[1],
        calls=said.calls,
        changed=said.changed,
        unpriced_before=said.unpriced_before,
        unpriced_after=said.unpriced_after,
        old_cost_usd=usd(said.old_nano),
        new_cost_usd=usd(said.new_nano),
        difference_usd=usd(said.new_nano - said.old_nano),
    )
