"""The real parts that tests run against. What a test asks for by name:

Stores (chDB in this process; one engine per process, a database of its own for each test):
  store            a `Store` with the schema applied        empty_store      the same without the schema
  store_url        its URL, for a service under test         empty_store_url  likewise
  chdb_directory   the engine's folder
Stores as services of their own (`url`, `database_url(name)`, kill/pause/resume/restart/stop):
  clickhouse_process         to be hurt, and `fault(...)`, see infra/clickhouse_process.py: whatever was
                             done to it is undone, and what it holds is dropped, before the next test
  shared_clickhouse_process  the same one: do not hurt it
  clickhouse_server          in Docker; skipped, saying so, where Docker does not answer
Brokers (`url`, `name`, `durable`, kill/pause/resume/restart/stop):
  tansu                  fresh, in milliseconds; forgets everything when killed
  durable_broker         keeps everything across `kill` and `restart`; afterwards it is healed and emptied
  shared_durable_broker  the same one, since a start takes seconds: do not hurt it, use topics of your own
  proxied_tansu          (broker, FaultProxy): its clients are sent through a proxy that fails on demand
  proxied_kafka          the same with Apache Kafka
SQL database, on SQLite and on PostgreSQL in turn (infra/postgres.py): `database_url`, which has its tables,
and `empty_database_url`, which has nothing.
Waiting: `await until(condition)` of `infra.waiting` polls with a deadline; nothing sleeps for luck.

`TOKENTIDE_TEST_BROKER=redpanda|kafka|tansu` chooses the durable broker (tansu: none).
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from infra.backends import described, durable_broker_name, start_durable_broker
from infra.brokers import Broker, Tansu
from infra.containers import ClickHouseServer, docker_answers
from infra.databases import Databases
from infra.fault_proxy import FaultProxy
from infra.kafka import Kafka
from infra.process import listens
from infra.stores import ClickHouseProcess, StoreService
from infra.topics import forget_topics
from tokentide_common.store import Store, connect

pytest_plugins = ["infra.postgres"]


# A test that is timed by the way fails on a machine that is busy otherwise.
settings.register_profile("tokentide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tokentide")


def pytest_configure() -> None:
    # Whoever starts the tests in the background makes them, and all their children, deaf to Ctrl-C,
    # which some tests send.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # Thousands of tests and all that they import stay to the end: not to look through them each time saves a
    # twelfth of the CPU.
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    return described()


@pytest.fixture(scope="session")
def chdb_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("chdb")
    # One connection stays open, so that the engine is not shut down and started again between tests.
    keeper = connect(f"chdb://{directory}", 30)
    yield directory
    keeper.close()


@pytest.fixture(scope="session")
def chdb_databases(chdb_directory: Path) -> Iterator[Databases]:
    databases = Databases(lambda name: f"chdb://{chdb_directory}?database={name}")
    yield databases
    databases.close()


@pytest.fixture
def store_url(chdb_databases: Databases) -> Iterator[str]:
    with chdb_databases.migrated() as url:
        yield url


@pytest.fixture
def empty_store_url(chdb_databases: Databases) -> Iterator[str]:
    with chdb_databases.new() as url:
        yield url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store(store_url)
    yield opened
    await opened.close()


@pytest.fixture
async def empty_store(empty_store_url: str) -> AsyncIterator[Store]:
    opened = Store(empty_store_url)
    yield opened
    await opened.close()


@pytest.fixture
def clickhouse_process(shared_clickhouse_process: ClickHouseProcess) -> Iterator[ClickHouseProcess]:
    yield shared_clickhouse_process
    shared_clickhouse_process.heal()


@pytest.fixture(scope="session")
def shared_clickhouse_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    service = ClickHouseProcess(tmp_path_factory.mktemp("clickhouse"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[StoreService]:
    if not docker_answers():
        pytest.skip("a ClickHouse server needs Docker, and no Docker daemon answers")
    service = ClickHouseServer()
    yield service
    service.stop()


@pytest.fixture
def tansu(tmp_path: Path) -> Iterator[Broker]:
    broker = Tansu(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def durable_broker(shared_durable_broker: Broker) -> Iterator[Broker]:
    yield shared_durable_broker
    shared_durable_broker.resume()
    if not listens(shared_durable_broker.port):
        shared_durable_broker.restart()
    asyncio.run(forget_topics(shared_durable_broker))


@pytest.fixture(scope="session")
def shared_durable_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    _require_durable()
    broker = start_durable_broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def fault_proxy() -> Iterator[FaultProxy]:
    proxy = FaultProxy()
    yield proxy
    proxy.stop()


@pytest.fixture
def proxied_tansu(tmp_path: Path, fault_proxy: FaultProxy) -> Iterator[tuple[Broker, FaultProxy]]:
    broker = Tansu(tmp_path, advertised_port=fault_proxy.port)
    fault_proxy.target_port = broker.port
    yield broker, fault_proxy
    broker.stop()


@pytest.fixture
def proxied_kafka(tmp_path: Path, fault_proxy: FaultProxy) -> Iterator[tuple[Broker, FaultProxy]]:
    broker = Kafka(tmp_path, advertised_port=fault_proxy.port)
    fault_proxy.target_port = broker.port
    yield broker, fault_proxy
    broker.stop()


def _require_durable() -> None:
    if durable_broker_name() == "tansu":
        pytest.skip("TOKENTIDE_TEST_BROKER=tansu: this run has no durable broker, by request")
