"""One question of one caller: who asks, what is asked, and where the answer is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tokentide_common.pricing import Prices
from tokentide_common.store import Store, rows
from tokentide_query_api import parameters as p
from tokentide_query_api.cursors import Cursor, decoded, encoded, question_digest
from tokentide_query_api.parameters import Arguments
from tokentide_query_api.periods import Period, resolve, zone_named
from tokentide_query_api.statement import Scope, Statement

# A question that runs longer than this is refused, so that one caller cannot take the store from the others.
LIMITS: Final[Mapping[str, int]] = {"max_execution_time": 20, "max_memory_usage": 4_000_000_000}


class Asking(msgspec.Struct, frozen=True):
    """A request after its key was accepted. `org_id` comes from the key and from nowhere else."""

    store: Store
    org_id: str
    now: datetime
    route: str
    arguments: Arguments
    prices: Prices

    def period(self) -> Period:
        """Return the period asked for."""
        get = self.arguments.one
        return resolve(get(p.FROM), get(p.TO), zone_named(self.arguments.text(p.TZ)), self.now)

    def scope(self, start_ms: int, end_ms: int) -> Scope:
        """Return the caller's calls between two instants that pass the filters."""
        return Scope(self.org_id, start_ms, end_ms, self.arguments.filters())

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

    async def rows(self, statement: Statement, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a finished statement."""
        return await rows(self.store, sql, statement.params, settings=LIMITS)


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
