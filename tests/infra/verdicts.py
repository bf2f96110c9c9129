"""The aggregator's side of the verdict protocol, spoken from the topics: everything is stored at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from infra.ingest_service import reading
from tokentide_common.broker import Publisher, Record
from tokentide_common.topics import ACTIVITY, USAGE, VERDICTS, Verdicts


class Aggregator:
    """Gives every record of these topics the same verdict."""

    def __init__(
        self, url: str, verdict: str = "counted", topics: tuple[str, ...] = (USAGE, ACTIVITY)
    ) -> None:
        self._url = url
        self._verdict = verdict
        self._topics = topics

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        publisher = Publisher(self._url)
        tasks = [asyncio.create_task(self._run(topic, publisher)) for topic in self._topics]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await publisher.stop()

    async def _run(self, topic: str, publisher: Publisher) -> None:
        async with reading(self._url, topic) as consumer:
            async for record in consumer:
                named = dict(record.headers)
                if "batch" not in named:
                    continue
                said = Verdicts(named["batch"].decode(), [(int(named["index"]), self._verdict)])
                answer = Record(named["reply-to"], msgspec.json.encode(said))
                await publisher.publish(VERDICTS, [Record(b"someone else", b"not JSON"), answer, answer])
