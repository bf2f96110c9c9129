"""What a report is: a name, its parameters, its columns, and who finds its rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import Answer, Column
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.written_rows import WrittenRows

Row = Mapping[str, Any]
TOP: Final = Parameter("limit", f"Rows at most, 1 to {p.MAX_LIMIT}.", default=str(p.DEFAULT_LIMIT))


class Report(msgspec.Struct, frozen=True):
    """A report over a period; `rows` answers it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Callable[[Asking, Period], Awaitable[Sequence[Row]]]
    parameters: tuple[Parameter, ...] = ()
    """Besides period, filters and format."""
    filters: tuple[Parameter, ...] = p.FILTERS
    of_people: bool = False
    """It tells people apart: not for those who see aggregates only."""

    async def answer(self, ask: Asking) -> Answer:
        """Answer the report: the period that it is about, and its rows."""
        period = ask.period()
        rows = await self.rows(ask, period)
        body = {
            "report": self.name,
            "from": period.start.astimezone(period.zone).isoformat(),
            "to": period.end.astimezone(period.zone).isoformat(),
            "tz": period.zone.key,
            "rows": rows.json if isinstance(rows, WrittenRows) else rows,
        }
        return Answer(body, self.columns, rows)
