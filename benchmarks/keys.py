"""What checking a key costs a request, and how long it takes to read all keys, and what changed.

All services keep the live keys in memory (`LiveKeys`), so that no request waits for the accounts database.

    python benchmarks/keys.py                    100,000 keys
    python benchmarks/keys.py --keys 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import sqlalchemy as sa

import parts
import report
from tokentide_common.accounts import KeyDirectory, create_organization, next_revision
from tokentide_common.accounts_reader import AccountsReader
from tokentide_common.accounts_schema import api_keys
from tokentide_common.database import Engine, open_database, utc_now, writing
from tokentide_common.key_directory import LiveKeys
from tokentide_common.keys import key_digest, mint_key

CHANGED = 100
REQUESTS = 100_000


def fill(engine: Engine, count: int) -> list[str]:
    """Issue keys in one go, and return them."""
    org_id = create_organization(engine, "Bench")
    secrets = [mint_key("a")[0] for _ in range(count)]
    with writing(engine) as connection:
        revision = next_revision(connection, "keys")
        now = utc_now()
        rows = [
            {
                "key_id": f"key_{n}", "org_id": org_id, "kind": "a", "digest": key_digest(secret),
                "name": f"Key {n}", "user_id": f"user_{n}", "created_at": now, "revision": revision,
            }
            for n, secret in enumerate(secrets)
        ]  # fmt: skip
        connection.execute(sa.insert(api_keys), rows)
    return secrets


def change(engine: Engine, first: int) -> None:
    """Revoke some keys."""
    revoked = [f"key_{n}" for n in range(first, first + CHANGED)]
    with writing(engine) as connection:
        connection.execute(
            sa.update(api_keys)
            .where(api_keys.c.key_id.in_(revoked))
            .values(revoked_at=utc_now(), revision=next_revision(connection, "keys"))
        )


def resolved(keys: LiveKeys, requests: Sequence[Mapping[str, str]]) -> float:
    """Return the microseconds of CPU that each of these requests took, the loop around it taken off."""
    started = time.process_time()
    for _ in requests:
        pass
    empty = time.process_time() - started
    resolve = keys.resolve
    started = time.process_time()
    for headers in requests:
        resolve(headers, "a")
    return (time.process_time() - started - empty) / len(requests) * 1e6


async def refreshed(keys: LiveKeys) -> float:
    """Return the seconds that a refresh took."""
    started = time.perf_counter()
    await keys.refresh()
    return time.perf_counter() - started


async def measured(count: int, path: Path) -> list[report.Line]:
    url = f"sqlite:///{path}/accounts.db"
    engine = open_database(url)
    secrets = fill(engine, count)
    reader = AccountsReader(url)
    directories = {"SQLAlchemy": KeyDirectory(engine), "the driver alone": LiveKeys(reader.select)}
    size = f"{count:,} keys"
    lines = []
    for name, keys in directories.items():
        value = await refreshed(keys)
        lines.append(report.Line("keys", f"all of {size}, by {name}", value, unit="s", goal=1, at_most=True))
    keys = directories["SQLAlchemy"]
    chosen = random.Random(7).choices(secrets[: count - 10 * CHANGED], k=REQUESTS)
    for how, requests in (
        ("Authorization", [{"authorization": f"Bearer {secret}", "accept": "*/*"} for secret in chosen]),
        ("x-tokentide-key", [{"x-tokentide-key": secret, "accept": "*/*"} for secret in chosen]),
    ):
        taken = [resolved(keys, requests) for _ in range(5)]
        lines.append(
            report.Line(
                "keys", f"a request's key among {size}, {how}", median(taken), unit="µs", goal=3, at_most=True
            )
        )
    times = []
    for turn in range(1, 6):
        change(engine, count - turn * CHANGED)
        times.append(await refreshed(keys))
    idle = [await refreshed(keys) for _ in range(20)]
    note = f"nothing changed: {median(idle) * 1000:.2g} ms"
    lines.append(
        report.Line(
            "keys", f"{CHANGED} of {size} changed", median(times), unit="s", goal=1, at_most=True, note=note
        )
    )
    reader.close()
    engine.dispose()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with parts.folder() as path:
        report.show(asyncio.run(measured(args.keys, path)), as_json=args.json)


if __name__ == "__main__":
    main()
