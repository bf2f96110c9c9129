"""Schema migrations: numbered SQL files, each applied once and recorded.

Every statement is written to be repeatable (IF NOT EXISTS), so a start that died half-way is repeated
harmlessly and two services that start at once do not hurt each other.
"""

from __future__ import annotations

import re
from importlib.resources import files

from tokentide_common.store import Store, rows

_LEDGER_OF_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  name String, applied_at DateTime DEFAULT now()
) ENGINE = ReplacingMergeTree(applied_at) ORDER BY name
"""


def migrations() -> list[tuple[str, list[str]]]:
    """Return (name, statements) of every migration in order of its number."""
    folder = files("tokentide_common") / "migrations"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(name, statements((folder / name).read_text("utf-8"))) for name in names]


def statements(sql: str) -> list[str]:
    """Split a migration into statements; comments and empty statements fall away."""
    bare = re.sub(r"--[^\n]*", "", sql)
    return [s.strip() for s in bare.split(";") if s.strip()]


async def migrate(store: Store) -> list[str]:
    """Apply what is missing and return the names applied now."""
    await store.command(_LEDGER_OF_MIGRATIONS)
    done = {row["name"] for row in await rows(store, "SELECT DISTINCT name FROM schema_migrations")}
    applied = []
    for name, parts in migrations():
        if name in done:
            continue
        for statement in parts:
            await store.command(statement)
        await store.insert("schema_migrations", b"%b\n" % name.encode(), fmt="TSV", columns=["name"])
        applied.append(name)
    return applied
