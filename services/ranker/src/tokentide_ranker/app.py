"""The ranker as a FastStream application, in a process of its own or in the event loop of others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from faststream import FastStream
from faststream.specification import AsyncAPI

from tokentide_common.database import Engine, utc_now
from tokentide_common.metrics import Metrics
from tokentide_common.store import Store
from tokentide_ranker.service import RankerService
from tokentide_ranker.settings import RankerSettings


class RankerApp(FastStream):
    """`await app.run()` owns the process's signals; `await app.start()` and `await app.stop()` do not."""

    def __init__(self, service: RankerService) -> None:
        super().__init__(
            service.broker,
            logger=None,
            specification=AsyncAPI(title="Tokentide ranker", version="0.1.0"),
            after_startup=[service.start],
            on_shutdown=[service.stop],
        )
        self.service = service


def create_app(
    settings: RankerSettings,
    *,
    store: Store | None = None,
    engine: Engine | None = None,
    metrics: Metrics | None = None,
    now: Callable[[], datetime] = utc_now,
) -> RankerApp:
    """Return the application. What is passed in stays the caller's to close; the rest is opened at start."""
    return RankerApp(RankerService(settings, store=store, engine=engine, metrics=metrics, now=now))
