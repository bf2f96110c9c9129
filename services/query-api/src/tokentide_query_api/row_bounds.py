"""How many rows an answer may have, and may be made of: the memory of one question is bounded."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Final, TypeVar

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.asking import Asking
from tokentide_query_api.statement import Statement

MAX_ROWS: Final = 100_000
"""Of an answer."""
MOST_READ: Final = 300_000
"""Of what an answer is made of."""
T = TypeVar("T", bound=Sized)


def few(found: T, most: int, how: str = "filter or shorten the period") -> T:
    """Return rows that are not too many. Raises `InvalidRequest`."""
    if len(found) > most:
        raise InvalidRequest(f"the answer takes more than {most} rows: {how}", code="too_many_points")
    return found


async def few_rows(
    ask: Asking, statement: Statement, sql: str, most: int, how: str = "filter or shorten the period"
) -> list[dict[str, Any]]:
    """Return the rows of a finished statement, of which no more are read than it takes to refuse them."""
    return few(await ask.rows(statement, f"{sql} LIMIT {most + 1}"), most, how)
