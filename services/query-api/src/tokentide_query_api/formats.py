"""An answer as JSON, CSV, NDJSON or Parquet. Pure.

JSON has the shape of the contract; the others have the same facts as a table, one row a line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
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
        return _csv(answer)
    if fmt == "ndjson":
        names = [column.name for column in answer.columns]
        lines = (msgspec.json.encode({name: row.get(name) for name in names}) for row in answer.rows)
        return b"".join(line + b"\n" for line in lines)
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


def _csv(answer: Answer) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([column.name for column in answer.columns])
    for row in answer.rows:
        writer.writerow([_cell(row.get(column.name)) for column in answer.columns])
    return out.getvalue().encode()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()


def _parquet(answer: Answer) -> bytes:
    arrays = [
        pa.array([_typed(row.get(column.name), column.kind) for row in answer.rows], type=_ARROW[column.kind])
        for column in answer.columns
    ]
    out = pa.BufferOutputStream()
    table = pa.Table.from_arrays(arrays, names=[column.name for column in answer.columns])
    pq.write_table(table, out, compression="zstd")
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
