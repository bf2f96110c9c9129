"""A tee in a process of its own, for tests that kill it: queues numbered requests and prints each number."""

from __future__ import annotations

import asyncio
import sys

from tokentide_common.accounts import KeyRecord
from tokentide_common.metrics import Metrics
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_wire import WireRequest
from tokentide_ingest.otlp.tee import Tee

KEY = KeyRecord(key_id="key_1", org_id="org_1", kind="m")


async def refuse_intake(*_arguments: object) -> None:
    raise AssertionError("a mirror takes nothing in")


async def main(folder: str, url: str, count: int) -> None:
    settings = ForwardSettings(otlp_forward_url=url, otlp_forward_queue_dir=folder)
    tee = Tee(settings, Metrics(), refuse_intake)
    await tee.start()
    for number in range(count):
        request = WireRequest("POST", "/v1/logs", "", (), b"request %d" % number)
        await tee.mirror("logs", request, KEY)
        print(number, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
