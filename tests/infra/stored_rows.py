"""Print every row of every table of an embedded store, with the system that owns it stopped.

A process of its own, since an engine has one folder for life: `python -m infra.stored_rows <folder>`.
"""

from __future__ import annotations

import asyncio
import sys

from tokentide_common.store import Store, rows

_TABLES = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine NOT LIKE '%View'"


async def main(folder: str) -> None:
    store = Store(f"chdb://{folder}")
    for table in await rows(store, _TABLES):
        content = await store.read(f"SELECT * FROM {table['name']}", fmt="JSONEachRow")
        sys.stdout.buffer.write(f"-- {table['name']}\n".encode() + content)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
