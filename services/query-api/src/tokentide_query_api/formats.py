"""An answer as JSON, CSV, NDJSON or Parquet. Pure.

JSON has the shape of the contract; the others have the same facts as a table, one row a line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from tokentide_common.errors import InvalidRequest

MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_ACCEPTED: Final = {
    "application/json": "json",
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/*": "json",
    "text/*": "csv",
    "*/*": "json",
}


Row = Mapping[str, Any]


class Kind(Enum):
    """The type of a column: what it is in Parquet. CSV writes JSON for what is not a scalar."""

    TEXT = "text"
    COUNT = "count"
    RATIO = "ratio"
    USD = "usd"
    AMOUNT = "amount"
    TIME = "time"
    FLAG = "flag"
    NESTED = "nested"


_ARROW: Final = {
    Kind.TEXT: pa.string(),
    Kind.COUNT: pa.int64(),
    Kind.RATIO: pa.float64(),
    Kind.USD: pa.decimal128(38, 9),
    Kind.AMOUNT: pa.decimal128(38, 9),
    Kind.TIME: pa.timestamp("ms", tz="UTC"),
    Kind.FLAG: pa.bool_(),
    Kind.NESTED: pa.string(),
}


class Column(msgspec.Struct, frozen=True):
    """A column of an answer's table."""

    name: str
    kind: Kind


class Answer(msgspec.Struct, frozen=True):
    """An answer: its JSON body, and the same as a table."""

    body: Mapping[str, Any]
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    next_cursor: str | None = None


def columns(kind: Kind, *names: str) -> tuple[Column, ...]:
    """Return columns of one kind."""
    return tuple(Column(name, kind) for name in names)


MEASURES: Final = (
    *columns(
        Kind.COUNT, "calls", "errors", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens",
        "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "web_search_requests",
    ),
    *columns(Kind.USD, "cost_usd", "reported_cost_usd"),
    *columns(Kind.COUNT, "unpriced_calls"),
)  # fmt: skip


def negotiated(format_text: str | None, accept: str) -> str:
    """Return the format to answer in: `format=` first, then the best of the Accept header, else JSON.

    Raises `InvalidRequest` (406) when the header accepts none of them.
    """
    if format_text is not None:
        return format_text
    wanted = [_media_range(text) for text in accept.split(",") if text.strip()]
    offers = [(q, -i, _ACCEPTED[media]) for i, (media, q) in enumerate(wanted) if media in _ACCEPTED]
    refused = not any(q > 0 for q, _, _ in offers)
    # A browser asks for pages it cannot have here, and is glad of JSON.
    if wanted and refused and not any(media == "text/html" for media, _ in wanted):
        raise InvalidRequest(
            f"Accept names none of {', '.join(sorted(set(MEDIA_TYPES.values())))}", code="not_acceptable"
        )
    return max(offers)[2] if offers and not refused else "json"


def rendered(answer: Answer, fmt: str) -> bytes:
    """Return an answer in a format."""
    if fmt == "csv":
        return csv_head(answer.columns) + csv_lines(answer.columns, answer.rows)
    if fmt == "ndjson":
        return ndjson_lines(answer.columns, answer.rows)
    return _parquet(answer) if fmt == "parquet" else msgspec.json.encode(answer.body)


def _media_range(text: str) -> tuple[str, float]:
    media, _, rest = text.partition(";")
    quality = 1.0
    for parameter in rest.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return media.strip().lower(), quality


def csv_head(columns: Sequence[Column]) -> bytes:
    """Return the line of names."""
    return _csv([[column.name for column in columns]])


def csv_lines(columns: Sequence[Column], rows: Iterable[Row]) -> bytes:
    """Return rows as CSV, without a head."""
    return _csv([_cell(row.get(column.name)) for column in columns] for row in rows)


def ndjson_lines(columns: Sequence[Column], rows: Iterable[Row]) -> bytes:
    """Return rows as JSON, one a line."""
    names = [column.name for column in columns]
    lines = (msgspec.json.encode({name: row.get(name) for name in names}) for row in rows)
    return b"".join(line + b"\n" for line in lines)


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the columns as Arrow knows them."""
    return pa.schema([(column.name, _ARROW[column.kind]) for column in columns])


def arrow_table(columns: Sequence[Column], rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table."""
    arrays = [
        pa.array([_typed(row.get(column.name), column.kind) for row in rows], type=_ARROW[column.kind])
        for column in columns
    ]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(columns))


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(lines)
    return out.getvalue().encode()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()


def _parquet(answer: Answer) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(arrow_table(answer.columns, answer.rows), out, compression="zstd")
    written: bytes = out.getvalue().to_pybytes()
    return written


def _typed(value: object, kind: Kind) -> object:
    if value is None:
        return None
    if kind in (Kind.USD, Kind.AMOUNT):
        return Decimal(str(value))
    if kind is Kind.TIME:
        return datetime.fromisoformat(str(value))
    return msgspec.json.encode(value).decode() if kind is Kind.NESTED else value
