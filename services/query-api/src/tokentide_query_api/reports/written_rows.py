"""Rows that the store writes as they are answered: a report of ten thousands of them is mostly text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import msgspec

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import TOKEN_SUMS
from tokentide_query_api.formats import MEASURES
from tokentide_query_api.row_bounds import few
from tokentide_query_api.statement import Statement


class WrittenRows(Sequence[dict[str, Any]]):
    """Rows as JSON texts, decoded only if somebody reads one."""

    def __init__(self, lines: bytes) -> None:
        self._lines = lines.rstrip(b"\n")
        # No text has a line's end in it: JSON writes those as `\n`.
        self._count = self._lines.count(b"\n") + 1 if self._lines else 0

    @property
    def json(self) -> msgspec.Raw:
        """All of them as one JSON array."""
        return msgspec.Raw(b"[%b]" % self._lines.replace(b"\n", b","))

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(msgspec.json.decode(self.json))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._rows[index]


async def written_rows(ask: Asking, statement: Statement, sql: str, most: int) -> WrittenRows:
    """Return the rows of a finished statement whose columns are those of the answer.

    Raises `InvalidRequest` for more than `most`, of which no more are read than it takes to refuse them.
    """
    raw = await ask.store.read(f"{sql} LIMIT {most + 1}", statement.params)
    return few(WrittenRows(raw), most)


def usd_sql(nano: str) -> str:
    """Return an expression of nano-dollars as the decimal of dollars: the store writes it exactly."""
    return f"toInt64({nano}) * toDecimal64('0.000000001', 9)"


def measures_sql() -> str:
    """Return the measures of an answer, from the sums of an alias `z`."""
    return ", ".join(f"{_measure(column.name)} AS {column.name}" for column in MEASURES)


def _measure(name: str) -> str:
    if name == "total_tokens":
        return " + ".join(f"z.{token}" for token in TOKEN_SUMS)
    return usd_sql(f"z.{name.removesuffix('_usd')}_nano") if name.endswith("_usd") else f"z.{name}"
