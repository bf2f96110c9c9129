"""One question of one caller: who asks, what is asked, and where the answer is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from tokentide_common.key_directory import LiveKeys
from tokentide_common.limit_facts import LimitFact, latest_limits_sql, of_sortable
from tokentide_common.pricing import Prices
from tokentide_common.store import Setting, rows
from tokentide_query_api import parameters as p
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.cursors import Cursor, decoded, encoded, question_digest
from tokentide_query_api.dimensions import DIMENSIONS, Dimension
from tokentide_query_api.parameters import Arguments
from tokentide_query_api.periods import Period, resolve, zone_named
from tokentide_query_api.scope import Scope, Sight
from tokentide_query_api.statement import Statement
from tokentide_query_api.store_wall import WalledStore
from tokentide_query_api.visibility import sight_of

T = TypeVar("T")
_MOST_FACTS: Final = 5000


class Asking(msgspec.Struct, frozen=True):
    """A request after its caller was let in: what it can reach comes from who that is and nothing else."""

    store: WalledStore
    principal: Principal
    now: datetime
    route: str
    arguments: Arguments
    prices: Prices
    keys: LiveKeys
    accounts: AsyncEngine

    def period(self) -> Period:
        """Return the period asked for."""
        get = self.arguments.one
        return resolve(get(p.FROM), get(p.TO), zone_named(self.arguments.text(p.TZ)), self.now)

    @property
    def sight(self) -> Sight:
        """What the caller may see at all."""
        return sight_of(self.principal)

    @property
    def org_id(self) -> str:
        """The caller's organisation."""
        return self.principal.org_id

    def scope(self, start_ms: int, end_ms: int, known: Mapping[str, Dimension] = DIMENSIONS) -> Scope:
        """Return what the caller may see between two instants and the filters on `known` dimensions leave."""
        return Scope(self.sight, start_ms, end_ms, self.arguments.filters(known))

    def everything(self, start_ms: int, end_ms: int) -> Scope:
        """Return what the caller may see between two instants, whatever the filters."""
        return Scope(self.sight, start_ms, end_ms)

    def page(self) -> Page:
        """Return where the page begins: at the cursor, or at the newest."""
        others = self.arguments.others(p.CURSOR, p.FORMAT, p.LIMIT)
        question = question_digest(self.org_id, self.route, others)
        limit = self.arguments.number(p.LIMIT)
        text = self.arguments.one(p.CURSOR)
        if text is not None:
            cursor = decoded(text, question)
            return Page(limit, cursor.start_ms, cursor.end_ms, question, cursor)
        period = self.period()
        return Page(limit, period.start_ms, period.end_ms, question)

    async def limit_facts(self) -> list[LimitFact]:
        """Return the newest word on each limit that the caller may see: a member of those of own keys."""
        if not self.sight.people:
            return []
        params = {"org_id": self.org_id, "limit": _MOST_FACTS}
        found = await rows(self.store, latest_limits_sql(), params)
        facts = [of_sortable(row["fact"]) for row in found]
        if self.sight.own is None:
            return facts
        own = self.keys.of_owner(self.principal.user_id)
        return [fact for fact in facts if fact.key_id in own]

    async def rows(
        self, statement: Statement, sql: str, settings: Mapping[str, Setting] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of a finished statement."""
        return await rows(self.store, sql, statement.params, settings=settings)

    async def read(self, statement: Statement, sql: str, line: msgspec.json.Decoder[T]) -> list[T]:
        """Return the rows of a finished statement, of which there are very many, each decoded from an array.

        Names would be most of what is written and read: the statement selects what `line` holds in its order.
        """
        raw = await self.store.read(sql, statement.params, fmt="JSONCompactEachRow")
        return line.decode_lines(raw)


class Page(msgspec.Struct, frozen=True):
    """A page of a list, newest first."""

    limit: int
    start_ms: int
    end_ms: int
    question: str
    after: Cursor | None = None

    def next_cursor(self, at_ms: int, last_id: str) -> str:
        """Return the cursor of the page after the row of this time and id."""
        return encoded(Cursor(self.start_ms, self.end_ms, at_ms, last_id, self.question))
