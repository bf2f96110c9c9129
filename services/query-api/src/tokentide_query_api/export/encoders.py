"""Rows as a file, piece by piece: what is written is given away at once, so no file is ever in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from tokentide_query_api.formats import (
    Column,
    Row,
    arrow_schema,
    arrow_table,
    csv_head,
    csv_lines,
    ndjson_lines,
)

# A row group is written whole. Small ones make a file large and slow to read.
_ROW_GROUP: Final = 16_384


class Encoder(Protocol):
    """A file in the making."""

    def head(self) -> bytes:
        """Return what comes before the first row."""

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Take rows and return what is ready."""

    def end(self) -> bytes:
        """Return what is left."""


class CsvEncoder:
    """CSV with a head."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def head(self) -> bytes:
        """Return the names."""
        return csv_head(self._columns)

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Return the rows."""
        return csv_lines(self._columns, rows)

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class NdjsonEncoder:
    """A JSON object a line."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def head(self) -> bytes:
        """Return nothing."""
        return b""

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Return the rows."""
        return ndjson_lines(self._columns, rows)

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class ParquetEncoder:
    """Parquet in row groups of one size, whatever the pieces: the same rows are the same bytes."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, arrow_schema(columns), compression="zstd")
        self._waiting = arrow_table(columns, [])

    def head(self) -> bytes:
        """Return the magic bytes."""
        return self._sink.taken()

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Return the row groups that are full."""
        # As columns they are a tenth of what they are as dictionaries.
        self._waiting = pa.concat_tables([self._waiting, arrow_table(self._columns, rows)])
        while self._waiting.num_rows >= _ROW_GROUP:
            self._write(self._waiting.slice(0, _ROW_GROUP))
            self._waiting = self._waiting.slice(_ROW_GROUP)
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the last row group and the index of the file."""
        if self._waiting.num_rows:
            self._write(self._waiting)
        self._writer.close()
        return self._sink.taken()

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks(), row_group_size=_ROW_GROUP)


class _Sink(io.RawIOBase):
    """Holds what was written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: object) -> int:
        """Keep a piece."""
        piece = bytes(data)  # type: ignore[call-overload]  # pyarrow gives bytes, or a buffer of its own
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


ENCODERS: Final[Mapping[str, Callable[[Sequence[Column]], Encoder]]] = {
    "csv": CsvEncoder,
    "ndjson": NdjsonEncoder,
    "parquet": ParquetEncoder,
}
