"""Stored calls to begin with: a store filled by direct inserts of large blocks, without a broker.

python benchmarks/history.py --path DIRECTORY --events 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import workload
from tokentide_aggregator.counted_call import index_row, joined
from tokentide_aggregator.rows import plain_row
from tokentide_common.identity import call_hash
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, rows

_BLOCK: Final = 200_000


def block(first: int, count: int, org_id: str = "") -> tuple[bytes, bytes]:
    """Return the rows of the calls that begin in a stretch of emissions: for `ledger` and for `seen`.

    With `org_id` all of them are that organisation's.
    """
    sights = workload.first_sights(first, count, workload.nano_rates())
    for event, _ in sights:
        event.org_id = org_id or event.org_id
    data = b"\n".join([plain_row(event, cost, "bench", 1) for event, cost in sights])
    index = [
        index_row(call_hash(e.org_id, e.call_id), 1, e.occurred_at, *joined(None, (e,))) for e, _ in sights
    ]
    return data, b"".join(index)


async def prefill(store: Store, first: int, count: int, org_id: str = "") -> None:
    """Store the first sights of a stretch of emissions, one process generating ahead; then let merges end."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ahead: list[Future[tuple[bytes, bytes]]] = []
        starts = iter(range(first, first + count, _BLOCK))

        def next_block() -> None:
            start = next(starts, None)
            if start is not None:
                ahead.append(pool.submit(block, start, min(_BLOCK, first + count - start), org_id))

        next_block()
        next_block()
        while ahead:
            data, index = await asyncio.wrap_future(ahead.pop(0))
            next_block()
            await store.insert("ledger", data)
            await store.insert("seen", index, fmt="RowBinary")
    await quiet(store)


async def quiet(store: Store, deadline_s: float = 300) -> None:
    """Wait until the engine merges nothing, so that what is measured next is not what happened before."""
    deadline = time.monotonic() + deadline_s
    still = 0
    while still < 4 and time.monotonic() < deadline:
        merging = (await rows(store, "SELECT count() AS n FROM system.merges"))[0]["n"]
        still = 0 if merging else still + 1
        await asyncio.sleep(0.5)


async def _filled(path: Path, events: int) -> None:
    store = Store(f"chdb://{path}", timeout_s=600)
    await migrate(store)
    await prefill(store, 0, events)
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    args = parser.parse_args()
    asyncio.run(_filled(args.path, args.events))
    print(json.dumps({"events": args.events}))


if __name__ == "__main__":
    main()
