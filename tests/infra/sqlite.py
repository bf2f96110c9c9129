"""SQLite databases that have their tables: the first is migrated, and the others are copies of it."""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from pathlib import Path

from tokentide_common.database import open_database


def migrated_sqlite(file: Path) -> str:
    """Make a database with its tables and no rows, unless the file is there, and return its URL."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_template())
    return f"sqlite:///{file}"


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "template.db"
        open_database(f"sqlite:///{file}").dispose()
        # What is in the log beside the file comes into it.
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return file.read_bytes()
