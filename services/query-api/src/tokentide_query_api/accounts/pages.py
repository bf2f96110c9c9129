"""Pages of account lists: by the last row's place in the order, so that no page is skipped or seen twice."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from litestar.params import QueryParameter
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.errors import InvalidRequest
from tokentide_common.schema import UtcTime
from tokentide_query_api.cursors import question_digest

DEFAULT_LIMIT: Final = 50
Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=500, description="How many on a page.")]
NextPage: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=2000, description="`next_cursor` of the page before.")
]


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended, and of which question. Holds no organisation: that is always the caller's."""

    question: str
    after: tuple[str, ...]


class Order(msgspec.Struct, frozen=True):
    """How a list is ordered: by columns that together differ from row to row, and that rows show."""

    columns: tuple[sa.Column[Any], ...]
    newest_first: bool = False


class Page(msgspec.Struct, frozen=True):
    """Which part of which list is asked for."""

    limit: int
    question: str
    cursor: str | None = None

    @classmethod
    def of(cls, org_id: str, route: str, limit: int, cursor: str | None, *filters: object) -> Page:
        """Return the page of a list; `filters` are whatever must stay the same from page to page."""
        return cls(limit, question_digest(org_id, route, filters), cursor)


async def page_of_rows(
    connection: AsyncConnection, query: sa.Select[Any], order: Order, page: Page
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return the rows of a page of `query`, and the cursor of the next one if there is any."""
    place = sa.tuple_(*order.columns)
    if page.cursor is not None:
        after = sa.tuple_(*_after(page.cursor, order, page.question))
        query = query.where(place < after if order.newest_first else place > after)
    ordered = [column.desc() if order.newest_first else column.asc() for column in order.columns]
    # One more than the page has tells whether there is another.
    rows = (await connection.execute(query.order_by(*ordered).limit(page.limit + 1))).all()
    if len(rows) <= page.limit:
        return rows, None
    shown = rows[: page.limit]
    return shown, _encoded(shown[-1], order, page.question)


def _encoded(last: sa.Row[Any], order: Order, question: str) -> str:
    values = [last._mapping[column] for column in order.columns]
    texts = tuple(v.isoformat() if isinstance(v, datetime) else str(v) for v in values)
    return base64.urlsafe_b64encode(msgspec.json.encode(_Place(question, texts))).decode().rstrip("=")


def _after(cursor: str, order: Order, question: str) -> list[sa.ColumnElement[Any]]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw, type=_Place)
        if place.question != question:
            raise _refused()
        pairs = zip(order.columns, place.after, strict=True)
        return [sa.literal(_value(column, text), column.type) for column, text in pairs]
    except (binascii.Error, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        raise _refused() from exc


def _value(column: sa.Column[Any], text: str) -> object:
    if "\0" in text:
        raise ValueError("no text of a database")
    if not isinstance(column.type, UtcTime):
        return text
    return datetime.fromisoformat(text).astimezone(UTC)


def _refused() -> InvalidRequest:
    return InvalidRequest(
        "the cursor belongs to another question: repeat it with the parameters of the first page",
        code="invalid_cursor",
        fields={"cursor": "take next_cursor as it is"},
    )
