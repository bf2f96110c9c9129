"""Every service in one event loop over one embedded engine: the same apps as in production."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

import msgspec

from tokentide.embedded.broker import embedded_broker
from tokentide.embedded.credentials import Credentials, ensure_credentials
from tokentide.embedded.data_folder import DataFolder
from tokentide.embedded.ports import Ports
from tokentide.embedded.secret_key import ensure_secret_key
from tokentide_aggregator.app import running as aggregator_running
from tokentide_aggregator.settings import AggregatorSettings
from tokentide_common.accounts import KeyDirectory
from tokentide_common.database import open_database
from tokentide_common.lost_tokens import forget_lost_tokens
from tokentide_common.metrics import Metrics
from tokentide_common.serving import listening, serving
from tokentide_common.settings import SharedSettings, load
from tokentide_common.store import Store
from tokentide_ingest.app import create_app as create_ingest
from tokentide_ingest.settings import IngestSettings
from tokentide_proxy.app import create_app as create_proxy
from tokentide_proxy.app import serving_options
from tokentide_proxy.settings import ProxySettings
from tokentide_query_api.app import create_app as create_query_api
from tokentide_query_api.settings import QuerySettings
from tokentide_ranker.app import create_app as create_ranker
from tokentide_ranker.settings import RankerSettings

S = TypeVar("S", bound=SharedSettings)


class Ready(msgspec.Struct, frozen=True):
    """The ready line."""

    ready: bool
    ingest: str
    otlp_grpc: str | None
    proxy: str
    query: str
    broker: str
    credentials: str


@contextlib.asynccontextmanager
async def embedded_system(
    folder: DataFolder, ports: Ports, time_zone: str
) -> AsyncIterator[tuple[Ready, asyncio.Future[None]]]:
    """Start everything and yield the ready line, and a future that ends if a part ends by itself.

    The end drains in the order of the stream: the doors close first, the broker goes last.
    """
    async with contextlib.AsyncExitStack() as stack:
        engine = open_database(f"sqlite:///{folder.accounts}")
        stack.callback(engine.dispose)
        credentials = ensure_credentials(folder, engine, time_zone)
        broker_url, broker_ended = await stack.enter_async_context(
            embedded_broker(ports.broker, folder.broker_log)
        )
        # Before anything is said of it: links in letters and at logins lead there.
        query_door = listening("127.0.0.1", ports.query)
        stack.callback(query_door.close)
        environ = _environment(folder, broker_url, ports, credentials)
        environ = {**environ, "TOKENTIDE_QUERY_PORT": str(query_door.getsockname()[1])}
        store = await _store(folder, environ)
        stack.push_async_callback(store.close)
        consumer, aggregator_ended = await stack.enter_async_context(
            aggregator_running(
                load(AggregatorSettings, environ), store=store, engine=engine, metrics=Metrics()
            )
        )
        ranker = create_ranker(load(RankerSettings, environ), store=store, engine=engine)
        stack.push_async_callback(ranker.stop)
        await ranker.start()
        keys = KeyDirectory(engine)
        stack.push_async_callback(keys.stop)
        await keys.start()
        query = create_query_api(load(QuerySettings, environ), store=store, engine=engine, keys=keys)
        query_port = await stack.enter_async_context(serving(query, host="127.0.0.1", port=query_door))
        stack.callback(query.state.live.close)  # streams have no end of their own
        ingest = create_ingest(load(IngestSettings, environ), keys=keys)
        ingest_port = await stack.enter_async_context(serving(ingest, host="127.0.0.1", port=ports.ingest))
        # The last to open and the first to close: the others count what it still sees of live streams.
        proxy = load(ProxySettings, environ)
        proxy_port = await stack.enter_async_context(
            serving(
                create_proxy(proxy, keys=keys),
                host="127.0.0.1",
                port=ports.proxy,
                drain_s=proxy.proxy_drain_s,
                options=serving_options(proxy),
            )
        )
        while not consumer.ready():
            await asyncio.wait({aggregator_ended}, timeout=0.05)
            if aggregator_ended.done():
                aggregator_ended.result()
        yield (
            Ready(
                ready=True,
                ingest=f"http://127.0.0.1:{ingest_port}",
                otlp_grpc=f"127.0.0.1:{ingest.state.otlp_grpc_port}",
                proxy=f"http://127.0.0.1:{proxy_port}",
                query=f"http://127.0.0.1:{query_port}",
                broker=broker_url,
                credentials=str(folder.credentials),
            ),
            asyncio.ensure_future(_first_end(broker_ended, aggregator_ended)),
        )


async def _store(folder: DataFolder, environ: Mapping[str, str]) -> Store:
    # Nothing acknowledged is lost: a block that a kill left half done is repeated, and then not refused.
    await forget_lost_tokens(folder.engine)
    return Store(environ["TOKENTIDE_CLICKHOUSE_URL"], connections=8)


async def _first_end(broker: asyncio.Task[int], aggregator: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait({broker, aggregator}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _environment(
    folder: DataFolder, broker_url: str, ports: Ports, credentials: Credentials
) -> Mapping[str, str]:
    """Return the settings of the embedded system: what it decides, and the caller's choice for the rest."""
    suggested = {
        # Tansu lets the first member of a group wait for half of this, and for a second at least; no other
        # member will ever come.
        "TOKENTIDE_SESSION_TIMEOUT_MS": "2000",
        # Telemetry and calls of this machine without a key are those of the user who started us.
        "TOKENTIDE_OTLP_LOOPBACK_KEY": credentials.machine_key,
        "TOKENTIDE_OTLP_FORWARD_QUEUE_DIR": str(folder.forward_queue.absolute()),
        "TOKENTIDE_PROXY_LOOPBACK_KEY": credentials.proxy_key,
        "TOKENTIDE_PROXY_SPOOL_DIR": str(folder.proxy_spool.absolute()),
        # Whoever stops it waits in front of a terminal.
        "TOKENTIDE_PROXY_DRAIN_S": "30",
    }
    decided = {
        "TOKENTIDE_BROKER_URL": broker_url,
        "TOKENTIDE_CLICKHOUSE_URL": f"chdb:///{folder.engine.absolute()}",
        "TOKENTIDE_DATABASE_URL": f"sqlite:///{folder.accounts.absolute()}",
        "TOKENTIDE_SECRET_KEY": ensure_secret_key(folder, os.environ),
        # The broker forgets: acknowledge only what is stored.
        "TOKENTIDE_EMBEDDED": "true",
        "TOKENTIDE_BIND_HOST": "127.0.0.1",
        "TOKENTIDE_OTLP_GRPC_PORT": str(ports.otlp_grpc),
    }
    return {**suggested, **os.environ, **decided}
